// Public headers must survive a program that defines common words as macros, and must not define macros of their own outside KEEL_
// (tools/check_budgets.py).
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <iosfwd>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>
#define check @a_macro_of_the_program@
#define ensure @a_macro_of_the_program@
#define verify @a_macro_of_the_program@
#define TEXT @a_macro_of_the_program@
#define PI @a_macro_of_the_program@
#define near @a_macro_of_the_program@
#define far @a_macro_of_the_program@
#define small @a_macro_of_the_program@
#define I @a_macro_of_the_program@
#include <keel/keel.h>
#include <keel/numerics.h>
#if !defined(near) || !defined(check)
#error "a header took the program's macros away"
#endif
