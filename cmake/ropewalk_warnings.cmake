# Warnings for our own code only: link ropewalk_warnings PRIVATE, never on a dependency.
add_library(ropewalk_warnings INTERFACE)
target_compile_options(ropewalk_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wnon-virtual-dtor;-Woverloaded-virtual;-Wimplicit-fallthrough>
  # GCC 12 sees an overlap in every "literal" + std::string (gcc.gnu.org PR 105651)
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${ROPEWALK_WERROR}>>:-Werror>)

# What all our code is compiled with. Bits matter: no contraction of a*b+c into an FMA unless the source says so.
add_library(ropewalk_options INTERFACE)
target_compile_features(ropewalk_options INTERFACE cxx_std_20)
target_compile_options(ropewalk_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
target_include_directories(ropewalk_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/ropewalk>)
