# llguidance, a Rust crate with a C interface, pinned in grammar/llguidance: cargo builds it into the build folder.
# `make deps` brings cargo where the system's packages have one that is new enough.
if(NOT TANDEM_CARGO)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/cargo.sh find OUTPUT_VARIABLE TANDEM_CARGO OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT TANDEM_CARGO)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/cargo.sh least OUTPUT_VARIABLE least OUTPUT_STRIP_TRAILING_WHITESPACE)
  message(FATAL_ERROR "Structured output needs cargo ${least} or newer, and there is none. Run `make deps`, or where the packages "
                      "have none new enough: curl -sSf https://sh.rustup.rs | sh -s -- -y")
endif()

set(llguidance_dir ${CMAKE_BINARY_DIR}/llguidance)
set(llguidance_lib ${llguidance_dir}/release/libtandem_llguidance.a)
file(GLOB llguidance_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/grammar/llguidance/Cargo.* ${CMAKE_SOURCE_DIR}/grammar/llguidance/src/*.rs)
add_custom_command(
  OUTPUT ${llguidance_lib} ${llguidance_dir}/release/llguidance.h
  COMMAND ${TANDEM_CARGO} build --release --locked --quiet --manifest-path ${CMAKE_SOURCE_DIR}/grammar/llguidance/Cargo.toml
          --target-dir ${llguidance_dir}
  DEPENDS ${llguidance_sources}
  COMMENT "Building llguidance with cargo"
  VERBATIM)
add_custom_target(tandem_llguidance_build DEPENDS ${llguidance_lib})
add_library(tandem_llguidance STATIC IMPORTED)
set_target_properties(tandem_llguidance PROPERTIES IMPORTED_LOCATION ${llguidance_lib}
  INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
add_dependencies(tandem_llguidance tandem_llguidance_build)
