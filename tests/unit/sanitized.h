#pragma once

// Which sanitizer the tests are built with.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitized = true, kThreadSanitized = false;
#elif defined(__SANITIZE_THREAD__)
inline constexpr bool kAddressSanitized = false, kThreadSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kAddressSanitized = __has_feature(address_sanitizer), kThreadSanitized = __has_feature(thread_sanitizer);
#else
inline constexpr bool kAddressSanitized = false, kThreadSanitized = false;
#endif
inline constexpr bool kSanitized = kAddressSanitized || kThreadSanitized;
