#include <keel/version.h>

#include <cstring>

int main() { return std::strcmp(keel::version(), "0.1.0"); }
