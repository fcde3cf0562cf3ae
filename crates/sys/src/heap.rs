//! The C library's heap, for small processes that live long and exist many times.

/// Gives the heap's free pages back to the kernel.
pub fn trim() {
    // SAFETY: malloc_trim takes the heap's own locks and moves no live block.
    unsafe { libc::malloc_trim(0) };
}

/// Makes the heap serve blocks of `bytes` and more from mappings of their own, which are given
/// back at once when they are freed.
pub fn map_blocks_from(bytes: i32) {
    // SAFETY: mallopt only stores a number of the allocator's configuration.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
}
