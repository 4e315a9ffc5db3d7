#pragma once
/// Data: sets of examples, loaders, transforms.
#include "keel/data/dataset.h"
#include "keel/data/loader.h"
#include "keel/data/transforms.h"
