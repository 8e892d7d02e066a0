# Cross build for 64-bit Arm with Debian's compiler; programs run under qemu:
#
#   cmake -S . -B build/arm64 -G Ninja -DGYRE_PARTS=codec -DCMAKE_TOOLCHAIN_FILE=ops/cmake/aarch64-linux-gnu.cmake
#
# libc comes with the compiler; the other libraries are the arm64 packages of ops/packages/debian-12.txt, unpacked by its install.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

get_filename_component(arm64_packages ${CMAKE_CURRENT_LIST_DIR}/../../build/packages/arm64 ABSOLUTE)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${arm64_packages})
set(ENV{PKG_CONFIG_LIBDIR} ${arm64_packages}/usr/lib/aarch64-linux-gnu/pkgconfig)
