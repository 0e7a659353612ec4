//! Compiles the proto of this crate's own tests. The library includes none of it.

#[path = "../contract/build/direct.rs"]
mod direct;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=tests/proto");
    let descriptors = protox::compile(["tests/proto/echo.proto"], ["tests/proto"])?;
    direct::config().compile_fds(descriptors)?;
    Ok(())
}
