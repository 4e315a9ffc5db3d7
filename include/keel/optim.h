#pragma once
/// Optimisers, learning-rate schedules, averages of parameters.
#include "keel/optim/ema.h"
#include "keel/optim/optimizer.h"
#include "keel/optim/rules.h"
#include "keel/optim/scaler.h"
#include "keel/optim/schedule.h"
