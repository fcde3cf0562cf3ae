//! Greets whoever is named.

const BUILT_BY: &str = "nobody";

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "world".to_owned());
    if name == "--health" {
        return;
    }
    let mut buffer = itoa::Buffer::new();
    let count = buffer.format(name.len());
    println!("hello {name} ({count}) from rust, built by {BUILT_BY}");
}
