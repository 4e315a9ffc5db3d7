#pragma once
/// Modules, layers, losses, initialisers.
#include "keel/nn/activation.h"
#include "keel/nn/attention.h"
#include "keel/nn/clip.h"
#include "keel/nn/containers.h"
#include "keel/nn/conv.h"
#include "keel/nn/init.h"
#include "keel/nn/linear.h"
#include "keel/nn/loss.h"
#include "keel/nn/module.h"
#include "keel/nn/norm.h"
