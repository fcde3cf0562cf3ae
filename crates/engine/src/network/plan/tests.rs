//! What Docker 28.5 answered to each request, and where its silence or the kernel's words are not
//! enough, what stands in their place.
