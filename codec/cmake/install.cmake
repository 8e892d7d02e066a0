# What `cmake --install` gives (component "codec"): headers, a static and a shared library, and what pkg-config and find_package
# need.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The house links the static library; the shared one is the same objects. It exports what include/ promises and nothing else.
# While the major version is 0 a new minor one may break callers, so both are in the soname.
set(soversion ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
set(exported ${CMAKE_CURRENT_LIST_DIR}/exported.map)
add_library(gyre_codec_shared SHARED $<TARGET_OBJECTS:gyre_codec>)
set_target_properties(gyre_codec_shared PROPERTIES
  OUTPUT_NAME gyrecodec VERSION ${PROJECT_VERSION} SOVERSION ${soversion} LINKER_LANGUAGE C LINK_DEPENDS ${exported})
target_include_directories(gyre_codec_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(gyre_codec_shared PRIVATE PkgConfig::SODIUM m)
target_link_options(gyre_codec_shared PRIVATE -Wl,--version-script=${exported})

install(DIRECTORY include/gyre DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT codec FILES_MATCHING PATTERN *.h)

# find_package(gyrecodec): one set of targets a kind of library, both under the name gyrecodec::gyrecodec
# (gyrecodec-config.cmake.in).
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/gyrecodec)
foreach(kind static shared)
  set(target gyre_codec)
  if(kind STREQUAL shared)
    set(target gyre_codec_shared)
  endif()
  set_target_properties(${target} PROPERTIES EXPORT_NAME gyrecodec)
  install(TARGETS ${target} EXPORT gyrecodec-${kind} COMPONENT codec
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT codec NAMELINK_COMPONENT codec
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT codec)
  install(EXPORT gyrecodec-${kind} NAMESPACE gyrecodec:: DESTINATION ${package} COMPONENT codec)
endforeach()
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/gyrecodec-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/gyrecodec-config.cmake
  INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/gyrecodec-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gyrecodec-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/gyrecodec-config-version.cmake
        DESTINATION ${package} COMPONENT codec)

# The prefix is said relative to the file, so that `cmake --install --prefix` and moved trees work.
set(pkgconfig ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH PREFIX_FROM_PC ${CMAKE_INSTALL_PREFIX}/${pkgconfig} ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_CURRENT_LIST_DIR}/gyrecodec.pc.in ${CMAKE_CURRENT_BINARY_DIR}/gyrecodec.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gyrecodec.pc DESTINATION ${pkgconfig} COMPONENT codec)
