#pragma once
/// Training: the loop.
#include "keel/train/trainer.h"
