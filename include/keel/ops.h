#pragma once
/// Every op.
#include "keel/ops/cast.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/index.h"
#include "keel/ops/reduce.h"
#include "keel/ops/view.h"
