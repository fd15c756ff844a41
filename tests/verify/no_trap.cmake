# cmake -DNVCC=... -DROOT=... -DPTX=... -P no_trap.cmake: fails if the decoders' PTX (written to PTX) has a trap, or no decoders.
execute_process(COMMAND ${NVCC} -std=c++20 --expt-relaxed-constexpr --fmad=false -arch=compute_90 -I${ROOT} -ptx -o ${PTX} ${ROOT}/verify/cuda/decode.cu
  ERROR_VARIABLE errors RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "nvcc: ${errors}")
endif()
file(STRINGS ${PTX} kernels REGEX "\\.entry ")
file(STRINGS ${PTX} traps REGEX "trap;")
list(LENGTH kernels count)
list(LENGTH traps trapped)
if(count LESS 26 OR trapped GREATER 0)
  message(FATAL_ERROR "${count} kernels, ${trapped} traps")
endif()
message("${count} kernels, no trap")
