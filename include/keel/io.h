#pragma once
/// Files: tensors, checkpoints, text, tables, events.
#include "keel/io/checkpoint.h"
#include "keel/io/csv.h"
#include "keel/io/file.h"
#include "keel/io/idx.h"
#include "keel/io/load.h"
#include "keel/io/npy.h"
#include "keel/io/safetensors.h"
#include "keel/io/tensorboard.h"
