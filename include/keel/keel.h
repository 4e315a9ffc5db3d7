#pragma once
/// All of Keel.
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/io.h"
#include "keel/log.h"
#include "keel/memory.h"
#include "keel/numerics/types.h"
#include "keel/op.h"
#include "keel/ops.h"
#include "keel/parallel.h"
#include "keel/random.h"
#include "keel/state_dict.h"
#include "keel/tensor.h"
