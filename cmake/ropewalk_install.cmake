include(CMakePackageConfigHelpers)
install(TARGETS ropewalk RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ropewalk_lib ropewalk_formats ropewalk_verify ropewalk_options ropewalk_warnings
  EXPORT ropewalk-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(layer lib formats verify)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${layer} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/ropewalk
    FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT ropewalk-targets NAMESPACE ropewalk:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ropewalk)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/ropewalk-config.cmake.in
  ${PROJECT_BINARY_DIR}/ropewalk-config.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ropewalk)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ropewalk-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ropewalk-config.cmake ${PROJECT_BINARY_DIR}/ropewalk-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ropewalk)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
