#!/bin/sh
# Tests of a program under one of compute-sanitizer's tools, in processes that share the GPU. A line a process says how many tests ran
# and what the tool found; a process that was killed, ran nothing or printed no summary counts as a failure.
#   tools/sanitize.sh PROGRAM memcheck|racecheck|initcheck|synccheck|nan [--filter TESTS] [--seconds N] [--processes N] [--logs FOLDER]
# `nan` is no tool: the memory of every tensor begins as NaN, which shows in results that depend on it, also where kernels of libraries copy
# in bulk, which initcheck does not see. Only f32 is tried of ops that take it unless KEEL_TEST_DTYPE names another dtype, or `all`.
set -u
program=$1 tool=$2
shift 2
filter='' seconds=200 processes=14 logs=$(mktemp -d)
while [ $# -gt 1 ]; do
  case $1 in
    --filter) filter=$2 ;;
    --seconds) seconds=$2 ;;
    --processes) processes=$2 ;;
    --logs) logs=$2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
under="compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 200"
# Every tensor gets memory of its own: reads of what a tensor before wrote there, or of a neighbour, are seen.
case $tool in memcheck | initcheck) export KEEL_DEVICE_POOL=0 ;; esac
[ "$tool" != nan ] || under="env KEEL_DEVICE_POOL=nan"
if [ -z "$filter" ]; then
  filter='*AgreesWithOracle*:LongRowsOnDevice.ManyMeetings:LongRowsOnDevice.*OfAFewRows:Trains*'
  # Products of 16 bits are written in bulk; and what an index out of range gives may hold anything, but one test copies it.
  [ "$tool" != initcheck ] || filter="$filter-TrainsOnDevice.MixedPrecision:TrainsOnDevice.ErrorsInDataNameTheCall"
fi
if [ "$tool" != nan ] && ! command -v compute-sanitizer > /dev/null; then echo "compute-sanitizer is not installed"; exit 1; fi
mkdir -p "$logs"
KEEL_TEST_SAMPLES=${KEEL_TEST_SAMPLES:-small} KEEL_TEST_DTYPE=${KEEL_TEST_DTYPE:-f32} GTEST_TOTAL_SHARDS=$processes
export KEEL_TEST_SAMPLES KEEL_TEST_DTYPE GTEST_TOTAL_SHARDS
[ "$KEEL_TEST_DTYPE" != all ] || unset KEEL_TEST_DTYPE
i=0
while [ $i -lt "$processes" ]; do
  log=$logs/$tool.$i.txt
  # shellcheck disable=SC2086
  { GTEST_SHARD_INDEX=$i timeout -k 5 "$seconds" $under "$program" --gtest_filter="$filter" > "$log" 2>&1; echo $? > "$log.status"; } &
  i=$((i + 1))
done
wait
i=0 bad=0 tests=0
while [ $i -lt "$processes" ]; do
  log=$logs/$tool.$i.txt status=$(cat "$log.status")
  asked=$(sed -n 's/^\[==========\] Running \([0-9]*\) tests\{0,1\} from.*/\1/p' "$log")
  passed=$(grep -c '^\[       OK \]' "$log")
  skipped=$(grep -c '^\[  SKIPPED \].*ms)$' "$log") failed=$(grep -c '^\[  FAILED  \].*ms)$' "$log")
  found=$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | tail -1 | sed 's/^=* *//')
  [ "$tool" != nan ] || found="status $status"
  how=complete
  [ "$status" = 0 ] || how="ended with status $status"
  case $status in 124 | 137) how="killed, after $seconds s at the latest" ;; esac
  if [ "$how" = complete ]; then
    if [ -z "$found" ]; then how="no summary"
    elif [ "$passed" = 0 ]; then how="nothing ran"
    elif [ $((passed + skipped)) != "${asked:-0}" ]; then how="tests are missing"; fi
  fi
  [ "$how" = complete ] || bad=$((bad + 1))
  tests=$((tests + passed))
  echo "$tool, process $i: $passed of ${asked:-?} tests passed, $skipped skipped, $failed failed; ${found:-no summary}; $how"
  i=$((i + 1))
done
grep -hE '^=+ +at ' "$logs/$tool".*.txt | sed 's/+0x.*//; s/^=* *//' | sort | uniq -c | sort -rn | head -20 # where
echo "$tool: $tests tests in $processes processes, $bad of which are not clean; logs in $logs"
[ $bad = 0 ]
