# tandem_mlx.so: backend/mlx over the MLX that is found. Without MLX or a C++ compiler the program is built without it.
option(TANDEM_MLX "Build the mlx backend when MLX is found" ON)
include(CheckLanguage)
if(NOT CMAKE_CXX_COMPILER) # none was here the last time: the build of `make serve` comes before what `make test` installs
  unset(CMAKE_CXX_COMPILER CACHE)
endif()
check_language(CXX)
if(NOT TANDEM_MLX OR NOT CMAKE_CXX_COMPILER)
  return()
endif()
enable_language(CXX)
file(GLOB wheels ${CMAKE_SOURCE_DIR}/build/mlx/lib/python3*/site-packages/mlx/share/cmake/MLX
     ${CMAKE_SOURCE_DIR}/build/venv/lib/python3*/site-packages/mlx/share/cmake/MLX)
find_package(MLX CONFIG QUIET HINTS ${wheels})
if(NOT MLX_FOUND)
  message(STATUS "MLX is not here: the mlx backend is left out (`make mlx` brings it)")
  return()
endif()
message(STATUS "mlx backend: MLX ${MLX_VERSION} in ${MLX_DIR}")

file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/backend/mlx/*.c)
list(FILTER sources INCLUDE REGEX "${TANDEM_MLX_OBJECT}")
file(GLOB shim CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/backend/mlx/*.cpp)
add_library(tandem_mlx MODULE ${sources} ${shim})
target_compile_options(tandem_mlx PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-shadow>) # C functions named as their structs
set_target_properties(tandem_mlx PROPERTIES PREFIX "" SUFFIX ".so" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
  CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON)
target_link_libraries(tandem_mlx PRIVATE tandem_backend mlx)
if(NOT APPLE)
  target_link_options(tandem_mlx PRIVATE -Wl,--exclude-libs,ALL) # it exports mlx_plugin_* only
endif()
