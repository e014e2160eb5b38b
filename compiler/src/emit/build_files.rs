//! What build systems read: pkg-config's `NAME.pc` and CMake's `NAME-config.cmake`. Both find the library beside themselves.

use super::Interface;

/// The text of `NAME.pc`.
pub fn pkg_config(interface: &Interface) -> String {
    let name = &interface.name;
    format!(
        "prefix=${{pcfiledir}}\n\
         \n\
         Name: {name}\n\
         Description: {origin}\n\
         Version: {version}\n\
         Cflags: -I${{prefix}}\n\
         Libs: -L${{prefix}} -l{name}\n",
        origin = interface.origin(),
        version = interface.version,
    )
}

/// The text of `NAME-config.cmake`: `find_package(NAME)` gives the target `NAME::NAME`.
pub fn cmake_config(interface: &Interface) -> String {
    let name = &interface.name;
    format!(
        "# {origin}. Generated; do not edit.\n\
         if(NOT TARGET {name}::{name})\n\
         \x20 add_library({name}::{name} STATIC IMPORTED)\n\
         \x20 set_target_properties({name}::{name} PROPERTIES\n\
         \x20   IMPORTED_LOCATION \"${{CMAKE_CURRENT_LIST_DIR}}/lib{name}.a\"\n\
         \x20   INTERFACE_INCLUDE_DIRECTORIES \"${{CMAKE_CURRENT_LIST_DIR}}\")\n\
         endif()\n",
        origin = interface.origin(),
    )
}
