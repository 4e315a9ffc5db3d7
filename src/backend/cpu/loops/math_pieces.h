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
/// Errors: 0.01, 0.17, 0.18, 0.03, 0.07, 0.08, 0.08, 0.03, 0.05, 0.12, 0.16, 0.22, 0.28, 0.38, 0.41, 0.48.
alignas(64) inline constexpr Pieces<6> kNormalTail = {
    5.300000190734863f, 0.35212549567222595f, 1.0563764572143555f,
    {0x0p+0f, 0x1.6a5e1p-1f, 0x1.48c1eap+0f, 0x1.c2f0d6p+0f, 0x1.1714cep+1f, 0x1.46b80cp+1f,
     0x1.73962ep+1f, 0x1.98297ep+1f, 0x1.beb23p+1f, 0x1.e3915p+1f, 0x1.025d4p+2f, 0x1.12d56ap+2f,
     0x1.21b5aap+2f, 0x1.306a66p+2f, 0x1.3ef2cep+2f, 0x1.4bfb6ap+2f},
    {{0x1p-1f, 0x1.ea9982p-3f, 0x1.97b16cp-4f, 0x1.402074p-5f, 0x1.def67cp-7f, 0x1.5e78cp-8f,
     0x1.e46b3ep-10f, 0x1.768e1p-11f, 0x1.fad6acp-13f, 0x1.4bb71p-14f, 0x1.c643bcp-16f, 0x1.260b8ap-17f,
     0x1.920994p-19f, 0x1.086334p-20f, 0x1.4f1fecp-22f, 0x1.ca64e6p-24f},
     {-0x1.988456p-2f, -0x1.3e024p-2f, -0x1.66328ap-3f, -0x1.5a55f6p-4f, -0x1.2f67fp-5f, -0x1.f7094ap-7f,
     -0x1.82b37ap-8f, -0x1.43e788p-9f, -0x1.da1ecap-11f, -0x1.4ce6c2p-12f, -0x1.e3e308p-14f, -0x1.4b4e86p-15f,
     -0x1.db68cep-17f, -0x1.4743dep-18f, -0x1.b13338p-20f, -0x1.3391fep-21f},
     {0x1.1263c8p-19f, 0x1.c223cp-4f, 0x1.cbffe8p-4f, 0x1.310874p-4f, 0x1.4ac2eep-5f, 0x1.40ffc2p-6f,
     0x1.18a67ap-7f, 0x1.0236c2p-8f, 0x1.9da5dp-10f, 0x1.3a6a2ap-11f, 0x1.e85b0ap-13f, 0x1.63ae4p-14f,
     0x1.0d014ap-15f, 0x1.85288cp-17f, 0x1.0ddc38p-18f, 0x1.8edb9ap-20f},
     {0x1.1035f2p-4f, 0x1.a7414p-6f, -0x1.360558p-6f, -0x1.e58568p-6f, -0x1.7ba5b4p-6f, -0x1.ce65a8p-7f,
     -0x1.deb556p-8f, -0x1.eef05cp-9f, -0x1.b9ac7ap-10f, -0x1.7031dap-11f, -0x1.3468ep-12f, -0x1.e181e4p-14f,
     -0x1.82152ep-15f, -0x1.26dbd2p-16f, -0x1.ae3872p-18f, -0x1.4c00dcp-19f},
     {0x1.f37102p-13f, -0x1.76c8d8p-6f, -0x1.9debf8p-7f, 0x1.4ee0f8p-11f, 0x1.82b94ap-8f, 0x1.781966p-8f,
     0x1.fbc38ap-9f, 0x1.347ab2p-9f, 0x1.3c690cp-10f, 0x1.27596p-11f, 0x1.0e92a4p-12f, 0x1.c9a104p-14f,
     0x1.8821ecp-15f, 0x1.3e3bc6p-16f, 0x1.eb0ebap-18f, 0x1.8d7682p-19f},
     {-0x1.6399aap-7f, -0x1.5c87bcp-11f, 0x1.8a0ac6p-8f, 0x1.13c57p-8f, 0x1.e126f8p-11f, -0x1.a4020ep-11f,
     -0x1.2d2c1ep-10f, -0x1.e99aap-11f, -0x1.35716p-11f, -0x1.50bc26p-12f, -0x1.59cdfcp-13f, -0x1.429bb4p-14f,
     -0x1.2ada3p-15f, -0x1.042e46p-16f, -0x1.ac187p-18f, -0x1.6cad18p-19f},
     {0x1.a6244ap-10f, 0x1.884108p-9f, 0x1.07e37p-12f, -0x1.5ba35ep-10f, -0x1.223f3p-10f, -0x1.ae957p-12f,
     0x1.19e0d4p-15f, 0x1.849976p-13f, 0x1.79689ep-13f, 0x1.09d2f2p-13f, 0x1.3e8708p-14f, 0x1.567564p-15f,
     0x1.553ddcp-16f, 0x1.4215ap-17f, 0x1.208e3ep-18f, 0x1.f37856p-20f}}};

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
/// Errors: 0.01, 0.03, 0.08, 0.03, 0.02, 0.04, 0.04, 0.05, 0.03, 0.02, 0.03, 0.06, 0.13, 0.19, 0.32, 0.45.
alignas(64) inline constexpr Pieces<6> kBentTail = {
    4.800000190734863f, 0.41372862458229065f, 1.2411859035491943f,
    {0x0p+0f, 0x1.41373ap-1f, 0x1.2c4332p+0f, 0x1.8edfcp+0f, 0x1.f3e024p+0f, 0x1.23b316p+1f,
     0x1.4ad55p+1f, 0x1.6eb7cp+1f, 0x1.91b0bep+1f, 0x1.b3709ap+1f, 0x1.d129e4p+1f, 0x1.eeac0ap+1f,
     0x1.0546d4p+2f, 0x1.13baaep+2f, 0x1.208e2p+2f, 0x1.2d2b9cp+2f},
    {{0x1p-1f, 0x1.0fa27p-2f, 0x1.edf472p-4f, 0x1.e955a4p-5f, 0x1.a02f8cp-6f, 0x1.6ecf86p-7f,
     0x1.33b452p-8f, 0x1.f92994p-10f, 0x1.8206ep-11f, 0x1.153ef2p-12f, 0x1.9dcab4p-14f, 0x1.1e36ep-15f,
     0x1.833fbap-17f, 0x1.cd434ep-19f, 0x1.230832p-20f, 0x1.5b067ap-22f},
     {-0x1.988454p-2f, -0x1.4f4cp-2f, -0x1.9a8d16p-3f, -0x1.e6aa16p-4f, -0x1.e9292ep-5f, -0x1.eb0274p-6f,
     -0x1.cf56c6p-7f, -0x1.a69da6p-8f, -0x1.653154p-9f, -0x1.1a3c98p-10f, -0x1.c97cfcp-12f, -0x1.56efdap-13f,
     -0x1.f3e118p-15f, -0x1.411954p-16f, -0x1.b0b6a6p-18f, -0x1.12d938p-19f},
     {0x1.c4126p-21f, 0x1.a5b11cp-4f, 0x1.dfcf1ep-4f, 0x1.7887c2p-4f, 0x1.db2cdcp-5f, 0x1.18aceep-5f,
     0x1.30d6cp-6f, 0x1.3a393p-7f, 0x1.29e088p-8f, 0x1.0602d2p-9f, 0x1.d183fp-11f, 0x1.7d4a56p-12f,
     0x1.2d7aa2p-13f, 0x1.a476dap-15f, 0x1.3020dcp-16f, 0x1.9d84aep-18f},
     {0x1.119f34p-4f, 0x1.0cf3c6p-5f, -0x1.a31e1cp-7f, -0x1.c8961p-6f, -0x1.c074c4p-6f, -0x1.52d2d8p-6f,
     -0x1.bc2a5cp-7f, -0x1.0abda4p-7f, -0x1.22346ep-8f, -0x1.2155a4p-9f, -0x1.1d8c82p-10f, -0x1.028814p-11f,
     -0x1.bfc83p-13f, -0x1.55ecf2p-14f, -0x1.0b4b5ep-15f, -0x1.874c32p-17f},
     {0x1.42059p-13f, -0x1.7260e4p-6f, -0x1.feb30cp-7f, -0x1.0deba2p-8f, 0x1.ecea4ap-9f, 0x1.83609cp-8f,
     0x1.66265cp-8f, 0x1.0e0e7p-8f, 0x1.613e1p-9f, 0x1.9c4a4ep-10f, 0x1.ce25eep-11f, 0x1.d6e0eap-12f,
     0x1.c4fbdap-13f, 0x1.7f6378p-14f, 0x1.46f468p-15f, 0x1.03b536p-16f},
     {-0x1.646de6p-7f, -0x1.0a04eap-9f, 0x1.757508p-8f, 0x1.615bf6p-8f, 0x1.42d9p-9f, 0x1.5cab18p-12f,
     -0x1.8bbbc6p-11f, -0x1.16838cp-10f, -0x1.fd9dcep-11f, -0x1.782c92p-11f, -0x1.f5149p-12f, -0x1.28dcc4p-12f,
     -0x1.44f99ep-13f, -0x1.37434ap-14f, -0x1.25d472p-15f, -0x1.005152p-16f},
     {0x1.7db19p-10f, 0x1.ab8734p-9f, 0x1.007984p-10f, -0x1.097a34p-10f, -0x1.502996p-10f, -0x1.afd5eep-11f,
     -0x1.64ae22p-12f, -0x1.810bc2p-15f, 0x1.1a5c34p-13f, 0x1.72f9f8p-13f, 0x1.4ebce2p-13f, 0x1.ec77d8p-14f,
     0x1.3eaf62p-14f, 0x1.6ef2fap-15f, 0x1.83254ep-16f, 0x1.7874c2p-17f}}};

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

/// 1 - sqrt(2 pi) u Phi(-u) e^(u^2 / 2) as a polynomial in 1 / u^2 for u from 5.29 to 14.7, the root rounded to f32.
inline constexpr float kFarNormal[6] = {0x1.722222p-24f, 0x1.fffc58p-1f, -0x1.7f5a4ep+1f, 0x1.d17dfp+3f, -0x1.4b5036p+6f, 0x1.47861ap+8f};
// clang-format on

}  // namespace keel::cpu
