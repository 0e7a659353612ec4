//! Compiles the proto of this crate's own tests. The library includes none of it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=tests/proto");
    let descriptors = protox::compile(["tests/proto/echo.proto"], ["tests/proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
