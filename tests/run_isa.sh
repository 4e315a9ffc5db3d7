#!/bin/sh
# run_isa.sh ISA KEEL PROGRAM [ARGUMENT...]: runs a program on one instruction set; 77 where the processor lacks it.
KEEL_ISA=$1
keel=$2
export KEEL_ISA
shift 2
if refused=$("$keel" doctor | grep "cannot be followed"); then
  echo "skipped:$refused"
  exit 77
fi
"$keel" doctor | grep -q "^kernels  *$KEEL_ISA\$" || { echo "kernels are not those of $KEEL_ISA"; exit 1; }
exec "$@"
