# libtandem, shared and static, and what `make install` puts where. lib/tandem.symbols lists every function of
# include/tandem.h with the version in which it came; nothing else is visible of either library.
set(CMAKE_INSTALL_LIBDIR lib CACHE STRING "where libraries go, below the prefix") # lib/tandem is looked for beside bin
include(GNUInstallDirs)

set(symbols ${CMAKE_SOURCE_DIR}/lib/tandem.symbols)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${symbols})
file(STRINGS ${symbols} rows)
set(generated ${CMAKE_BINARY_DIR}/generated)
set(prefix "")
if(APPLE)
  set(prefix "_")
endif()
set(before "")
set(script "")
set(inherits "")
set(names "")
set(wanted "")
foreach(row ${rows}) # sorted by version: each version's block names the one before it
  separate_arguments(row)
  list(GET row 0 version)
  list(GET row 1 name)
  if(NOT version STREQUAL before)
    if(script)
      string(APPEND script "} ${inherits};\n")
      set(inherits ${before})
    endif()
    string(APPEND script "${version} {\nglobal:\n")
    set(before ${version})
  endif()
  string(APPEND script "    ${name};\n")
  string(APPEND names "${prefix}${name}\n")
  list(APPEND wanted -Wl,-u,${prefix}${name})
endforeach()
string(APPEND script "local: *;\n} ${inherits};\n")
file(CONFIGURE OUTPUT ${generated}/tandem.map CONTENT "${script}" @ONLY)
file(CONFIGURE OUTPUT ${generated}/tandem.names CONTENT "${names}" @ONLY)

# Shared. Its objects are those of lib/; the rest comes out of the other folders as it is needed.
add_library(tandem_shared SHARED $<TARGET_OBJECTS:tandem_lib>)
target_link_libraries(tandem_shared PRIVATE tandem_pipeline tandem_engine)
set_target_properties(tandem_shared PROPERTIES OUTPUT_NAME tandem VERSION ${PROJECT_VERSION} SOVERSION 0
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} LINKER_LANGUAGE C LINK_DEPENDS ${generated}/tandem.map)
if(APPLE)
  target_link_options(tandem_shared PRIVATE -Wl,-exported_symbols_list,${generated}/tandem.names -Wl,-dead_strip)
else()
  target_link_options(tandem_shared PRIVATE -Wl,--version-script=${generated}/tandem.map -Wl,--gc-sections -Wl,--as-needed)
endif()

# Static: one object, in which all names but those of the header are local, so that none can meet one of the program's.
set(parts lib pipeline engine model grammar chat mcp http wire backend text tensor base)
list(TRANSFORM parts PREPEND "tandem_")
set(archives)
foreach(part ${parts})
  list(APPEND archives $<TARGET_FILE:${part}>)
endforeach()
include(CheckLinkerFlag)
check_linker_flag(C -Wl,--force-group-allocation TANDEM_HAS_GROUP_ALLOCATION) # GNU's: a group of sections whose name is local
set(groups)
if(TANDEM_HAS_GROUP_ALLOCATION)
  set(groups -Wl,--force-group-allocation)
endif()
set(merge ${CMAKE_C_COMPILER} -r -nostdlib -o tandem_whole.o ${wanted})
if(APPLE)
  list(APPEND merge -Wl,-exported_symbols_list,${generated}/tandem.names ${archives} ${llguidance_lib})
  set(localize ${CMAKE_COMMAND} -E true)
else()
  list(APPEND merge ${groups} -Wl,--start-group ${archives} ${llguidance_lib} -Wl,--end-group)
  # The bitcode that comes with Rust's own library is of no use, and older tools stumble over it.
  set(localize ${CMAKE_OBJCOPY} --keep-global-symbols=${generated}/tandem.names --remove-section=.llvmbc
    --remove-section=.llvmcmd tandem_whole.o)
endif()
set(static ${CMAKE_BINARY_DIR}/libtandem.a)
add_custom_command(OUTPUT ${static}
  COMMAND ${merge}
  COMMAND ${localize}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${static}
  COMMAND ${CMAKE_AR} rcs ${static} tandem_whole.o
  COMMAND ${CMAKE_COMMAND} -E rm -f tandem_whole.o
  DEPENDS ${parts} tandem_llguidance_build ${generated}/tandem.names
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR} VERBATIM)
add_custom_target(tandem_static ALL DEPENDS ${static})

# What the static library needs of the system, for those who link it.
set(TANDEM_PRIVATE_LIBS -luv -ljson-c -lcurl -lcrypto -lpcre2-8 -lutf8proc -lpthread -ldl -lm)
string(REPLACE ";" " " TANDEM_PRIVATE_LIBS "${TANDEM_PRIVATE_LIBS}")
set(TANDEM_SHARED_NAME ${CMAKE_SHARED_LIBRARY_PREFIX}tandem${CMAKE_SHARED_LIBRARY_SUFFIX})
# From where they lie to the prefix, however deep the folder of libraries is (lib/x86_64-linux-gnu): it may be moved whole.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  message(FATAL_ERROR "CMAKE_INSTALL_LIBDIR and CMAKE_INSTALL_INCLUDEDIR have to be folders below the prefix.")
endif()
file(RELATIVE_PATH TANDEM_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
file(RELATIVE_PATH TANDEM_CMAKE_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/cmake/tandem /prefix)
string(REGEX REPLACE "/$" "" TANDEM_PC_TO_PREFIX "${TANDEM_PC_TO_PREFIX}")
string(REGEX REPLACE "/$" "" TANDEM_CMAKE_TO_PREFIX "${TANDEM_CMAKE_TO_PREFIX}")
configure_file(cmake/tandem.pc.in ${generated}/tandem.pc @ONLY)
configure_file(cmake/tandemConfig.cmake.in ${generated}/tandemConfig.cmake @ONLY)
include(CMakePackageConfigHelpers)
write_basic_package_version_file(${generated}/tandemConfigVersion.cmake COMPATIBILITY SameMinorVersion)

# ---- make install ----
install(TARGETS tandem RUNTIME)
install(TARGETS tandem_shared LIBRARY)
install(FILES ${static} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/tandem.h TYPE INCLUDE)
install(FILES ${generated}/tandem.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${generated}/tandemConfig.cmake ${generated}/tandemConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tandem)
install(FILES README.md CHANGELOG.md LICENSE TYPE DOC)
install(DIRECTORY docs/ TYPE DOC)
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY deploy/grafana deploy/prometheus DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem)
install(FILES deploy/man/tandem.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
if(TARGET tandem_mlx)
  set_target_properties(tandem_mlx PROPERTIES INSTALL_RPATH "$<TARGET_FILE_DIR:mlx>")
  install(TARGETS tandem_mlx LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/tandem)
endif()
if(NOT APPLE)
  install(FILES deploy/systemd/tandem.sysusers DESTINATION lib/sysusers.d RENAME tandem.conf)
endif()
# Files of the service manager name the program by its path: that of the prefix at hand.
set(services deploy/systemd/tandem.service deploy/systemd/tandem.socket)
set(services_to lib/systemd/system)
if(APPLE)
  set(services deploy/launchd/io.tandem.serve.plist)
  set(services_to ${CMAKE_INSTALL_DATADIR}/tandem)
endif()
foreach(service ${services})
  install(CODE "
    file(READ \"${CMAKE_SOURCE_DIR}/${service}\" text)
    string(REPLACE \"/usr/local/\" \"\${CMAKE_INSTALL_PREFIX}/\" text \"\${text}\")
    get_filename_component(name \"${service}\" NAME)
    file(WRITE \"${generated}/installed/\${name}\" \"\${text}\")
    file(INSTALL \"${generated}/installed/\${name}\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${services_to}\")")
endforeach()
