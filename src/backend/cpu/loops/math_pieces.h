#pragma once
// Made by tools/math_pieces.py: polynomials of 16 pieces for f32, the same for every instruction set. Errors are those of the exact
// polynomials, piece by piece, in units of 2^-24, relative but where said.

namespace keel::cpu {

/// c[k][i] is coefficient k of piece i in t = u - centre[i]; good for 0 <= u <= reach. Its function says how `scale` and `shift` find i.
template <int degree>
struct Pieces {
  float reach, scale, shift;
  alignas(64) float centre[16];
  alignas(64) float c[degree + 1][16];
};

// clang-format off

/// Phi(-u), the tail of the normal distribution.
/// Errors: 0.02, 0.25, 0.24, 0.03, 0.11, 0.15, 0.11, 0.05, 0.12, 0.20, 0.30, 0.44, 0.54, 0.59, 0.77, 0.77.
alignas(64) inline constexpr Pieces<6> kNormalTail = {
    5.5f, 0.3313368856906891f, 0.9940106868743896f,
    {0x0p+0f, 0x1.8b1f02p-1f, 0x1.5b4846p+0f, 0x1.ddffc2p+0f, 0x1.22ac18p+1f, 0x1.55bec6p+1f,
     0x1.7fa8eap+1f, 0x1.a9d41ep+1f, 0x1.cf88cep+1f, 0x1.f66b1ep+1f, 0x1.0c5a8ep+2f, 0x1.1c5b3ap+2f,
     0x1.2c5a38p+2f, 0x1.3c992ap+2f, 0x1.4a6d46p+2f, 0x1.58ffbap+2f},
    {{0x1p-1f, 0x1.c2d8bp-3f, 0x1.663b16p-4f, 0x1.fae338p-6f, 0x1.7b5cbap-7f, 0x1.f14514p-9f,
     0x1.64f7b6p-10f, 0x1.cc9b7ap-12f, 0x1.334a84p-13f, 0x1.6b8dacp-15f, 0x1.cdcdd4p-17f, 0x1.2993eep-18f,
     0x1.6956eap-20f, 0x1.94eee2p-22f, 0x1.050e6ep-23f, 0x1.2d973ep-25f},
     {-0x1.988458p-2f, -0x1.2f4f78p-2f, -0x1.458e94p-3f, -0x1.1de63ep-4f, -0x1.f00d5ap-6f, -0x1.723b2ep-7f,
     -0x1.24c5p-8f, -0x1.9d361p-10f, -0x1.28ff74p-11f, -0x1.7993bep-13f, -0x1.fd2202p-15f, -0x1.59e7f2p-16f,
     -0x1.b9bec4p-18f, -0x1.03ec02p-19f, -0x1.5cc96cp-21f, -0x1.a398e8p-23f},
     {0x1.96654ep-19f, 0x1.d42416p-4f, 0x1.b9a40ep-4f, 0x1.0ae9d2p-4f, 0x1.199e54p-5f, 0x1.ee3cb8p-7f,
     0x1.b6c3e8p-8f, 0x1.57aa9p-9f, 0x1.0ce256p-10f, 0x1.7282d6p-12f, 0x1.0ad9ccp-13f, 0x1.803868p-15f,
     0x1.032378p-16f, 0x1.4172dap-18f, 0x1.c2302ep-20f, 0x1.1abc2ap-21f},
     {0x1.102a8ep-4f, 0x1.472f22p-6f, -0x1.6cb4b2p-6f, -0x1.d9e702p-6f, -0x1.57ace2p-6f, -0x1.7a27ccp-7f,
     -0x1.8595d2p-8f, -0x1.5aab0ep-9f, -0x1.2bd2fp-10f, -0x1.c54bcap-12f, -0x1.5fbf5ap-13f, -0x1.0e19bep-14f,
     -0x1.82f686p-16f, -0x1.fc5d24p-18f, -0x1.74d5b2p-19f, -0x1.ea86e8p-21f},
     {0x1.31576ep-12f, -0x1.770fd8p-6f, -0x1.554464p-7f, 0x1.5a2246p-9f, 0x1.94d902p-8f, 0x1.54164cp-8f,
     0x1.b5971ep-9f, 0x1.ce195ep-10f, 0x1.c54d56p-11f, 0x1.7f12b2p-12f, 0x1.4448e4p-13f, 0x1.0c15e8p-14f,
     0x1.9af79cp-16f, 0x1.1f8bd8p-17f, 0x1.bbeb4ap-19f, 0x1.330d16p-20f},
     {-0x1.6779c4p-7f, 0x1.ec7d1ap-12f, 0x1.8ece98p-8f, 0x1.b739ccp-9f, 0x1.74c408p-12f, -0x1.0cf36p-10f,
     -0x1.21e9a6p-10f, -0x1.96c2bcp-11f, -0x1.dd8b06p-12f, -0x1.d35d46p-13f, -0x1.b8ad9ap-14f, -0x1.8d6664p-15f,
     -0x1.4996e4p-16f, -0x1.f0eb74p-18f, -0x1.954198p-19f, -0x1.28d76cp-20f},
     {0x1.bfebe4p-10f, 0x1.7b094ap-9f, -0x1.15c044p-14f, -0x1.69b46cp-10f, -0x1.e2a9d2p-11f, -0x1.fc6c14p-13f,
     0x1.d7829ep-14f, 0x1.9539e8p-13f, 0x1.4648dp-13f, 0x1.94a93ap-14f, 0x1.b3d998p-15f, 0x1.aa8caap-16f,
     0x1.841a5cp-17f, 0x1.4f3e3cp-18f, 0x1.13a336p-19f, 0x1.b866cep-21f}}};

/// Phi(-u) - u phi(u); below 1.5 the error is of 0.1 where that is more.
/// Errors: 0.17, 5.28, 0.96, 0.18, 0.18, 0.06, 0.04, 0.09, 0.10, 0.06, 0.05, 0.09, 0.16, 0.23, 0.33, 0.37.
alignas(64) inline constexpr Pieces<6> kNormalSlope = {
    5.5f, 0.3313368856906891f, 0.9940106868743896f,
    {0x0p+0f, 0x1.95c0aap-1f, 0x1.642d5p+0f, 0x1.d84c7ap+0f, 0x1.256332p+1f, 0x1.530be8p+1f,
     0x1.81fff8p+1f, 0x1.a92b46p+1f, 0x1.cfa216p+1f, 0x1.f49e86p+1f, 0x1.0c11dp+2f, 0x1.1da4eap+2f,
     0x1.2cb2eep+2f, 0x1.3b9f9cp+2f, 0x1.4adb8cp+2f, 0x1.593174p+2f},
    {{0x1p-1f, -0x1.1523eep-6f, -0x1.07c4ecp-3f, -0x1.a07eaep-4f, -0x1.c3ef7ap-5f, -0x1.c47052p-6f,
     -0x1.77d0e8p-7f, -0x1.3fbcbap-8f, -0x1.f215ccp-10f, -0x1.6e0036p-11f, -0x1.00dbaep-12f, -0x1.4ff22cp-14f,
     -0x1.e3db56p-16f, -0x1.4bd0c6p-17f, -0x1.a3a1d4p-19f, -0x1.0d092cp-20f},
     {-0x1.988468p-1f, -0x1.996dcep-2f, -0x1.3f049ep-7f, 0x1.a2418p-4f, 0x1.806f6ep-4f, 0x1.eb0f0ap-5f,
     0x1.eb752p-6f, 0x1.daa3fap-7f, 0x1.9bab7p-8f, 0x1.4b8bf6p-9f, 0x1.f7eb9ap-11f, 0x1.6235e6p-12f,
     0x1.0e2bdp-13f, 0x1.86efcap-15f, 0x1.04491ap-16f, 0x1.5d779ep-18f},
     {0x1.af5c4ep-16f, 0x1.8ebb2cp-2f, 0x1.bdb5e8p-3f, 0x1.47c988p-5f, -0x1.53853ap-5f, -0x1.870d5cp-5f,
     -0x1.0a0df8p-5f, -0x1.32e14ep-6f, -0x1.31bbaap-7f, -0x1.136a92p-8f, -0x1.cbc8ecp-10f, -0x1.5f1e06p-11f,
     -0x1.1dba9p-12f, -0x1.b6cccp-14f, -0x1.352f7cp-15f, -0x1.b46ffep-17f},
     {0x1.0ff982p-2f, -0x1.561ee8p-15f, -0x1.2c2c12p-3f, -0x1.9940bep-4f, -0x1.97a9d2p-6f, 0x1.0c6e2ep-7f,
     0x1.0a0ffp-6f, 0x1.a8bbap-7f, 0x1.040cf4p-7f, 0x1.1004a8p-8f, 0x1.fe9194p-10f, 0x1.ae841p-11f,
     0x1.79b32ap-12f, 0x1.365582p-13f, 0x1.d1f40cp-15f, 0x1.5b8f5p-16f},
     {0x1.36bdacp-9f, -0x1.c4e038p-4f, -0x1.09e498p-8f, 0x1.67bedap-5f, 0x1.132094p-5f, 0x1.adfcb2p-7f,
     -0x1.7324ap-12f, -0x1.0b059cp-8f, -0x1.ffd2f4p-9f, -0x1.542bcp-9f, -0x1.77bab6p-10f, -0x1.67a63ap-11f,
     -0x1.59cab4p-12f, -0x1.33bf0ep-13f, -0x1.f0eadep-15f, -0x1.8a7cbep-16f},
     {-0x1.15e472p-4f, 0x1.2ddf46p-6f, 0x1.1e80c8p-5f, 0x1.89f764p-8f, -0x1.69bc82p-7f, -0x1.4ce58ep-7f,
     -0x1.22973ep-8f, -0x1.ae0d5ap-11f, 0x1.79ec54p-11f, 0x1.eed466p-11f, 0x1.6cfc5p-11f, 0x1.a5a58cp-12f,
     0x1.c9e1e4p-13f, 0x1.c241fp-14f, 0x1.8d5a0ap-15f, 0x1.53707ap-16f},
     {0x1.be47cp-7f, 0x1.28e424p-6f, -0x1.cce992p-8f, -0x1.4cb73p-7f, -0x1.18d0f6p-9f, 0x1.2a987p-9f,
     0x1.47246ap-9f, 0x1.59fc8ap-10f, 0x1.7cc3b6p-12f, -0x1.5ac1ap-14f, -0x1.876a54p-13f, -0x1.4bb03p-13f,
     -0x1.ab7e4ep-14f, -0x1.d743d4p-15f, -0x1.dba56ep-16f, -0x1.be5596p-17f}}};

/// 1 / (1 + exp(2 b (u + k u^3))), b and k as in gelu_tanh.
/// Errors: 0.01, 0.08, 0.10, 0.05, 0.03, 0.04, 0.08, 0.04, 0.04, 0.05, 0.09, 0.16, 0.29, 0.51, 0.77, 1.00.
alignas(64) inline constexpr Pieces<6> kBentTail = {
    5.0f, 0.38725000619888306f, 1.1617499589920044f,
    {0x0p+0f, 0x1.4cc628p-1f, 0x1.34d8bp+0f, 0x1.a45804p+0f, 0x1.03c6dep+1f, 0x1.334618p+1f,
     0x1.5c24ap+1f, 0x1.7f498ap+1f, 0x1.a494f4p+1f, 0x1.c4a608p+1f, 0x1.e713dp+1f, 0x1.026356p+2f,
     0x1.10f122p+2f, 0x1.1eb838p+2f, 0x1.2ca42cp+2f, 0x1.39d454p+2f},
    {{0x1p-1f, 0x1.081e8ep-2f, 0x1.d2f5b8p-4f, 0x1.9cdd94p-5f, 0x1.5a65fap-6f, 0x1.06c486p-7f,
     0x1.9536c4p-9f, 0x1.441f14p-10f, 0x1.b8788cp-12f, 0x1.3c789ap-13f, 0x1.7b415ap-15f, 0x1.e8037ep-17f,
     0x1.256c7p-18f, 0x1.58e2d8p-20f, 0x1.6da926p-22f, 0x1.7cdf1p-24f},
     {-0x1.988456p-2f, -0x1.4a7c9ap-2f, -0x1.8a8e44p-3f, -0x1.a9f374p-4f, -0x1.a40668p-5f, -0x1.70c0bep-6f,
     -0x1.41155cp-7f, -0x1.1c7c6cp-8f, -0x1.ae09f2p-10f, -0x1.52001p-11f, -0x1.bd2d04p-13f, -0x1.363064p-14f,
     -0x1.92a89cp-16f, -0x1.fc06d6p-18f, -0x1.20d8f6p-19f, -0x1.4106aap-21f},
     {0x1.0632f2p-19f, 0x1.ae83c8p-4f, 0x1.da1dc4p-4f, 0x1.5b39f4p-4f, 0x1.a8a558p-5f, 0x1.be544cp-6f,
     0x1.c07686p-7f, 0x1.bee682p-8f, 0x1.7cf784p-9f, 0x1.4aff7ap-10f, 0x1.e3ea7ap-12f, 0x1.6ff4c8p-13f,
     0x1.03894ap-14f, 0x1.617eecp-16f, 0x1.b15bc4p-18f, 0x1.02170ap-19f},
     {0x1.11909cp-4f, 0x1.f84c2ep-6f, -0x1.e56eaap-7f, -0x1.d930a6p-6f, -0x1.ab5292p-6f, -0x1.235d78p-6f,
     -0x1.605a6ap-7f, -0x1.9569cp-8f, -0x1.8e7212p-9f, -0x1.84affep-10f, -0x1.3fe348p-11f, -0x1.0c3abcp-12f,
     -0x1.9ee6bap-14f, -0x1.334c56p-15f, -0x1.98d146p-17f, -0x1.066058p-18f},
     {0x1.e3b95p-13f, -0x1.75a50ep-6f, -0x1.de38f8p-7f, -0x1.012eacp-9f, 0x1.2d0b36p-8f, 0x1.8528ep-8f,
     0x1.3f31aep-8f, 0x1.c15d92p-9f, 0x1.09613ap-9f, 0x1.2a74f4p-10f, 0x1.1ac784p-11f, 0x1.099c22p-12f,
     0x1.c84ebep-14f, 0x1.736474p-15f, 0x1.0e6fbap-16f, 0x1.78c4dap-18f},
     {-0x1.6ad24ap-7f, -0x1.9f43bcp-10f, 0x1.7f26bcp-8f, 0x1.3dae24p-8f, 0x1.efa928p-10f, -0x1.a71fbp-13f,
     -0x1.fb2aaap-11f, -0x1.14806ap-10f, -0x1.b72422p-11f, -0x1.2da70ap-11f, -0x1.579a48p-12f, -0x1.73ab8p-13f,
     -0x1.6a2b24p-14f, -0x1.49159cp-15f, -0x1.0a2bf6p-16f, -0x1.96f7dcp-18f},
     {0x1.adf11ap-10f, 0x1.a4a32p-9f, 0x1.3ebec4p-11f, -0x1.2a7a42p-10f, -0x1.3bdc3ep-10f, -0x1.5382a6p-11f,
     -0x1.91e558p-13f, 0x1.13bf48p-14f, 0x1.5c32c4p-13f, 0x1.64502ep-13f, 0x1.1327b4p-13f, 0x1.6622d6p-14f,
     0x1.980fe8p-15f, 0x1.a150e6p-16f, 0x1.83f7e2p-17f, 0x1.4b3bc2p-18f}}};

/// The derivative of x / (1 + exp(-2 b (x + k x^3))) at -u; below 1.5 as above.
/// Errors: 0.07, 1.70, 0.63, 0.03, 0.07, 0.06, 0.02, 0.03, 0.03, 0.04, 0.07, 0.04, 0.05, 0.09, 0.21, 0.39.
alignas(64) inline constexpr Pieces<6> kBentSlope = {
    5.0f, 0.38725000619888306f, 1.1617499589920044f,
    {0x0p+0f, 0x1.66c2d2p-1f, 0x1.33818cp+0f, 0x1.aac95cp+0f, 0x1.0780f2p+1f, 0x1.3410a8p+1f,
     0x1.5bfefp+1f, 0x1.81f496p+1f, 0x1.a2dd04p+1f, 0x1.c5ad0ap+1f, 0x1.e4c7cp+1f, 0x1.02a1eap+2f,
     0x1.118bbcp+2f, 0x1.1f78p+2f, 0x1.2c9ceap+2f, 0x1.395036p+2f},
    {{0x1p-1f, 0x1.7ded42p-6f, -0x1.e2be02p-4f, -0x1.e56ce8p-4f, -0x1.46c6dep-4f, -0x1.7496acp-5f,
     -0x1.8308fep-6f, -0x1.6bf3bap-7f, -0x1.53e5eep-8f, -0x1.0f19e8p-9f, -0x1.add0ap-11f, -0x1.24ca24p-12f,
     -0x1.886066p-14f, -0x1.012698p-15f, -0x1.48a0e8p-17f, -0x1.91377cp-19f},
     {-0x1.98845cp-1f, -0x1.e19c4cp-2f, -0x1.bee212p-4f, 0x1.3679fp-4f, 0x1.b854bcp-4f, 0x1.5cfe72p-4f,
     0x1.c237e2p-5f, 0x1.f73a68p-6f, 0x1.0caa54p-6f, 0x1.e8524ep-8f, 0x1.afb5acp-9f, 0x1.477feep-10f,
     0x1.e21ff8p-12f, 0x1.57a496p-13f, 0x1.d9f496p-15f, 0x1.36a4b4p-16f},
     {0x1.b5927ep-17f, 0x1.8869bcp-2f, 0x1.2ec198p-2f, 0x1.a3b6dcp-4f, -0x1.249ffap-7f, -0x1.7dc12ap-5f,
     -0x1.7eb092p-5f, -0x1.1744bcp-5f, -0x1.65b088p-6f, -0x1.7f59b4p-7f, -0x1.828cb8p-8f, -0x1.4c8804p-9f,
     -0x1.10754ep-10f, -0x1.aabcf8p-12f, -0x1.402ep-13f, -0x1.c5ac92p-15f},
     {0x1.1178bcp-2f, 0x1.45ea66p-5f, -0x1.08018cp-3f, -0x1.00898cp-3f, -0x1.fd4e3p-5f, -0x1.b8c316p-7f,
     0x1.452b1ap-7f, 0x1.0cd48cp-6f, 0x1.dfdb4p-7f, 0x1.48a7bep-7f, 0x1.8ae416p-8f, 0x1.8d7578p-9f,
     0x1.72298p-10f, 0x1.4358a8p-11f, 0x1.0aff98p-12f, 0x1.9cb05ap-14f},
     {0x1.b09bfep-10f, -0x1.e105c8p-4f, -0x1.39bb64p-5f, 0x1.08c53cp-5f, 0x1.53c7cep-5f, 0x1.b6f5fcp-6f,
     0x1.6c780ap-7f, 0x1.97769p-11f, -0x1.cf2b2ap-9f, -0x1.24f8e6p-8f, -0x1.d9ffp-9f, -0x1.2ac61cp-9f,
     -0x1.48c33p-10f, -0x1.487e14p-11f, -0x1.2fe02cp-12f, -0x1.03a7d8p-13f},
     {-0x1.151c6ep-4f, 0x1.3c446ap-7f, 0x1.46fd9p-5f, 0x1.087244p-6f, -0x1.2074a4p-8f, -0x1.558518p-7f,
     -0x1.21680ap-7f, -0x1.46d6e2p-8f, -0x1.e9e804p-10f, 0x1.ed469p-13f, 0x1.05383cp-10f, 0x1.0916e2p-10f,
     0x1.7ca4e8p-11f, 0x1.ca6442p-12f, 0x1.eaf0f4p-13f, 0x1.da3ebep-14f},
     {0x1.9c6af2p-7f, 0x1.5c8f94p-6f, -0x1.4fd97ep-9f, -0x1.697266p-7f, -0x1.817d0cp-8f, -0x1.152502p-11f,
     0x1.dd886cp-10f, 0x1.25727ap-9f, 0x1.b42b64p-10f, 0x1.bd0032p-11f, 0x1.8c1d1p-13f, -0x1.27826ep-13f,
     -0x1.e9dda8p-13f, -0x1.9f778ap-13f, -0x1.10d1f2p-13f, -0x1.30101ap-14f}}};

/// 1 / (1 + exp(u)).
/// Errors: 0.00, 0.60, 0.44, 0.27, 0.60, 0.51, 0.22, 0.07, 0.24, 0.37, 0.46, 0.48, 0.52, 0.51, 0.54, 0.51.
alignas(64) inline constexpr Pieces<5> kLogisticTail = {
    9.0f, 1.7211110591888428f, 0.0f,
    {0x0p+0f, 0x1.24e89p-1f, 0x1.29c2dap+0f, 0x1.c297b8p+0f, 0x1.2c7764p+1f, 0x1.76157cp+1f,
     0x1.bb8706p+1f, 0x1.04ef0cp+2f, 0x1.27adc4p+2f, 0x1.4d7f06p+2f, 0x1.75a802p+2f, 0x1.985874p+2f,
     0x1.bdc824p+2f, 0x1.e20866p+2f, 0x1.04c99p+3f, 0x1.1747a2p+3f},
    {{0x1p-1f, 0x1.7169ep-2f, 0x1.e7a082p-3f, 0x1.2c980ap-3f, 0x1.65788ep-4f, 0x1.a235a2p-5f,
     0x1.f0cfbp-6f, 0x1.112fdp-6f, 0x1.3fb666p-7f, 0x1.63ae66p-8f, 0x1.7cc6dcp-9f, 0x1.bb7012p-10f,
     0x1.ee7b94p-11f, 0x1.18c26ap-11f, 0x1.2ecb0ep-12f, 0x1.53d386p-13f},
     {-0x1.fffffep-3f, -0x1.d84a86p-3f, -0x1.7385fep-3f, -0x1.007974p-3f, -0x1.4645f4p-4f, -0x1.8cdc06p-5f,
     -0x1.e1bf1ep-6f, -0x1.0ca1b4p-6f, -0x1.3c97d2p-7f, -0x1.61c034p-8f, -0x1.7babbp-9f, -0x1.bab006p-10f,
     -0x1.ee042ap-11f, -0x1.189be8p-11f, -0x1.2eb4acp-12f, -0x1.53c56ep-13f},
     {-0x1.56fcecp-21f, 0x1.070ae2p-5f, 0x1.8533f2p-5f, 0x1.6a603ap-5f, 0x1.0d53a6p-5f, 0x1.6457acp-6f,
     0x1.c4882ep-7f, 0x1.03ac52p-7f, 0x1.366a14p-8f, 0x1.5de8ccp-9f, 0x1.797656p-10f, 0x1.b92fd4p-11f,
     0x1.ed14aep-12f, 0x1.184e7cp-12f, 0x1.2e8746p-13f, 0x1.53a88ap-14f},
     {0x1.557a1ap-6f, 0x1.e31288p-7f, 0x1.5e801ep-9f, -0x1.541178p-8f, -0x1.c64af4p-8f, -0x1.775e06p-8f,
     -0x1.087dc2p-8f, -0x1.42f0d6p-9f, -0x1.8daeep-10f, -0x1.c86d8p-11f, -0x1.f164b8p-12f, -0x1.24273p-12f,
     -0x1.47805ep-13f, -0x1.74fb96p-14f, -0x1.92e5c8p-15f, -0x1.c492cap-16f},
     {-0x1.a4355ep-15f, -0x1.31bbbep-8f, -0x1.2f64ap-8f, -0x1.e902eap-10f, 0x1.ba27bp-14f, 0x1.89f658p-11f,
     0x1.85831ap-11f, 0x1.163fcp-11f, 0x1.6e8386p-12f, 0x1.b5794ep-13f, 0x1.e75218p-14f, 0x1.212a7ep-14f,
     0x1.462fd8p-15f, 0x1.74a36ap-16f, 0x1.9384fap-17f, 0x1.c5b5acp-18f},
     {-0x1.029f0cp-9f, -0x1.b92dbap-11f, 0x1.81595cp-11f, 0x1.de692ep-11f, 0x1.c5ef6ep-12f, 0x1.402f9p-14f,
     -0x1.d660c8p-15f, -0x1.34a068p-14f, -0x1.dbb06ep-15f, -0x1.371d98p-15f, -0x1.7a910ep-16f, -0x1.ba4c9ap-17f,
     -0x1.fa5524p-18f, -0x1.1f69dap-18f, -0x1.43a042p-19f, -0x1.6cedap-20f}}};

/// tanh(u), 1 from `reach` on.
/// Errors: 0.07, 0.04, 0.03, 0.01, 0.03, 0.19, 0.10, 0.03, 0.23, 0.28, 0.11, 0.03, 0.38, 0.03, 0.00, 0.26.
alignas(64) inline constexpr Pieces<5> kTanh = {
    9.020000457763672f, 3.325939178466797f, 2.0f,
    {0x0p+0f, 0x1.cc5c9p-3f, 0x1.81cbd6p-2f, 0x1.0e599p-1f, 0x1.801a56p-1f, 0x1.0ec866p+0f,
     0x1.5e2b1ep+0f, 0x1.a3912ep+0f, 0x1.0dd218p+1f, 0x1.57bdcap+1f, 0x1.a68cbap+1f, 0x1.f4969ep+1f,
     0x1.3277e4p+2f, 0x1.7f68fep+2f, 0x1.ce06acp+2f, 0x1.0b791ap+3f},
    {{0x0p+0f, 0x1.c4c2e6p-3f, 0x1.7085c6p-2f, 0x1.ef7c04p-2f, 0x1.4541f4p-1f, 0x1.91d13ap-1f,
     0x1.c1a376p-1f, 0x1.daca22p-1f, 0x1.f11b76p-1f, 0x1.fb42c2p-1f, 0x1.fe9cb4p-1f, 0x1.ff96fp-1f,
     0x1.ffedd6p-1f, 0x1.fffe5cp-1f, 0x1.ffffdcp-1f, 0x1.fffffcp-1f},
     {0x1p+0f, 0x1.e6f9fap-1f, 0x1.bdafe4p-1f, 0x1.881fe6p-1f, 0x1.315fbep-1f, 0x1.894edap-2f,
     0x1.d4825cp-3f, 0x1.1eddb8p-3f, 0x1.d5a2dap-5f, 0x1.2de7d6p-6f, 0x1.62d0aap-8f, 0x1.a41518p-10f,
     0x1.2298eap-12f, 0x1.a3fc42p-16f, 0x1.200776p-19f, 0x1.f43caap-23f},
     {0x1.a2416ep-21f, -0x1.aea1a2p-3f, -0x1.40caa6p-2f, -0x1.7b79bp-2f, -0x1.83fd28p-2f, -0x1.34ac0cp-2f,
     -0x1.9b7306p-3f, -0x1.0a04dcp-3f, -0x1.c7f64p-5f, -0x1.2b149ap-6f, -0x1.61cd7ep-8f, -0x1.a3ae38p-10f,
     -0x1.21d4dap-12f, -0x1.a2ed6ap-16f, -0x1.1f3c1ep-19f, -0x1.d1ab1cp-30f},
     {-0x1.55617ap-2f, -0x1.150efap-2f, -0x1.6b5b46p-3f, -0x1.373b5ap-4f, 0x1.570fe6p-5f, 0x1.bc9eacp-4f,
     0x1.9a6c1ap-4f, 0x1.2e1a1ap-4f, 0x1.1e2f8ap-5f, 0x1.879482p-7f, 0x1.d544eap-9f, 0x1.17510ep-10f,
     0x1.8370e8p-13f, 0x1.181864p-16f, 0x1.7ebfe8p-20f, 0x1.5968aap-24f},
     {0x1.ac6b9ep-11f, 0x1.0904ecp-3f, 0x1.578eeep-3f, 0x1.479b66p-3f, 0x1.982d84p-4f, 0x1.045808p-6f,
     -0x1.52fff6p-6f, -0x1.99882ap-6f, -0x1.f974a8p-7f, -0x1.7d7052p-8f, -0x1.d76c7ep-10f, -0x1.1b1764p-11f,
     -0x1.9d539ep-14f, -0x1.2b00dp-17f, -0x1.9aa71p-21f, -0x1.8667a8p-21f},
     {0x1.073412p-3f, 0x1.560096p-4f, 0x1.307afp-6f, -0x1.14614p-5f, -0x1.027d76p-4f, -0x1.4aaa6cp-5f,
     -0x1.6c5f46p-7f, 0x1.090ce2p-9f, 0x1.267d24p-8f, 0x1.0f5aeep-9f, 0x1.6c2268p-11f, 0x1.c3babap-13f,
     0x1.3c0cbep-15f, 0x1.c95f34p-19f, 0x1.4a4ae6p-22f, 0x1.c40a36p-22f}}};

/// 2^(i / 16) e^s with s = 0.00626055, and coefficients of e^(r - s) - 1 for |r| <= ln(2) / 32.
alignas(64) inline constexpr float kExpTable[16] =
    {0x1.019b94p+0f, 0x1.0d0354p+0f, 0x1.18ec58p+0f, 0x1.255c5ap+0f, 0x1.325954p+0f, 0x1.3fe984p+0f,
     0x1.4e136ep+0f, 0x1.5cddep+0f, 0x1.6c4ff6p+0f, 0x1.7c711cp+0f, 0x1.8d4912p+0f, 0x1.9edffp+0f,
     0x1.b13e2ap+0f, 0x1.c46c94p+0f, 0x1.d87464p+0f, 0x1.ed5f3cp+0f};
inline constexpr float kExpTerms[4] = {-0x1.99028p-8f, 0x1.fccdfap-1f, 0x1.fcd23ap-2f, 0x1.5357fap-3f};
// clang-format on

}  // namespace keel::cpu
