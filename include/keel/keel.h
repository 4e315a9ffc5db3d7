#pragma once
/// All of Keel.
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/numerics/types.h"
#include "keel/op.h"
#include "keel/ops.h"
#include "keel/parallel.h"
#include "keel/random.h"
#include "keel/state_dict.h"
#include "keel/tensor.h"
