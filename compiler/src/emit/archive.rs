//! Static libraries: `ar` archives with a symbol table, the same bytes for the same members.

use std::io::{Seek, Write};

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};

/// Writes an archive of one object file.
///
/// # Errors
/// Those of the writer.
pub fn write_archive(to: &mut (impl Write + Seek), member: &str, object: &[u8]) -> std::io::Result<()> {
    let members = [NewArchiveMember::new(object, &DEFAULT_OBJECT_READER, member.to_owned())];
    write_archive_to_stream(to, &members, ArchiveKind::Gnu, false, None)
}
