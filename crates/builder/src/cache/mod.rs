//! What was built before: records of results by cache key, and what is given up first.
