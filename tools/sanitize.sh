#!/bin/sh
# Tests of a program under one of compute-sanitizer's tools, in processes that share the GPU. A line a process says how many tests ran
# and what the tool found; a process that was killed, ran nothing or printed no summary counts as a failure.
#   tools/sanitize.sh PROGRAM memcheck|racecheck|initcheck|synccheck [--filter TESTS] [--seconds N] [--processes N] [--logs FOLDER]
# Only f32 is tried of ops that take it (KEEL_TEST_DTYPE=f32) unless KEEL_TEST_DTYPE says otherwise; `all` is all of them.
set -u
program=$1 tool=$2
shift 2
filter='*AgreesWithOracle*:LongRowsOnDevice.ManyMeetings:LongRowsOnDevice.*OfAFewRows:Trains*' seconds=200 processes=14 logs=$(mktemp -d)
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
# Every tensor gets memory of its own: reads of what a tensor before wrote there, or of a neighbour, are seen.
case $tool in memcheck | initcheck) export KEEL_DEVICE_POOL=0 ;; esac
if ! command -v compute-sanitizer > /dev/null; then echo "compute-sanitizer is not installed"; exit 1; fi
mkdir -p "$logs"
KEEL_TEST_SAMPLES=${KEEL_TEST_SAMPLES:-small} KEEL_TEST_DTYPE=${KEEL_TEST_DTYPE:-f32} GTEST_TOTAL_SHARDS=$processes
export KEEL_TEST_SAMPLES KEEL_TEST_DTYPE GTEST_TOTAL_SHARDS
[ "$KEEL_TEST_DTYPE" != all ] || unset KEEL_TEST_DTYPE
i=0
while [ $i -lt "$processes" ]; do
  log=$logs/$tool.$i.txt
  { GTEST_SHARD_INDEX=$i timeout -k 5 "$seconds" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 "$program" \
      --gtest_filter="$filter" > "$log" 2>&1; echo $? > "$log.status"; } &
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
echo "$tool: $tests tests in $processes processes, $bad of which are not clean; logs in $logs"
[ $bad = 0 ]
