// keel: train, evaluate and look into models from the command line.
#include <cstdio>

#include "common.h"

namespace {

int exit_code(const keel::Error& e) {
  switch (e.code()) {
    case keel::ErrorCode::device: return keel::app::kNoDevice;
    case keel::ErrorCode::numeric: return keel::app::kNumericalStop;
    case keel::ErrorCode::interrupted: return keel::app::kInterrupted;
    default: return keel::app::kFailed;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Keel " + std::string(keel::version()) + ": train, evaluate and look into models");
  app.require_subcommand(1);
  app.set_version_flag("--version", keel::version());
  keel::app::Outcome out;
  keel::app::add_train(app, out);
  keel::app::add_eval(app, out);
  keel::app::add_predict(app, out);
  keel::app::add_sample(app, out);
  keel::app::add_inspect(app, out);
  keel::app::add_bench(app, out);
  keel::app::add_doctor(app, out);
  keel::app::add_demo(app, out);
  keel::app::add_completion(app, out);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? keel::app::kOk : keel::app::kUsage;
  } catch (const keel::Error& e) {
    std::fprintf(stderr, "keel: %s\n", e.what());
    return exit_code(e);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "keel: %s\n", e.what());
    return keel::app::kFailed;
  }
  return out.code;
}
