//! Compiles the service; the compiler is written in Rust: no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=bench.proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    Codegen::new()
        .out_dir(&out)
        .input("bench.proto")
        .include(".")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false).tokio_bytes(true))
        .customize(Customize { async_all: true, ..Customize::default() })
        .run()?;
    // The files begin with inner attributes, so they can be modules but cannot be included.
    fs::write(out.join("modules.rs"), "pub mod bench;\npub mod bench_ttrpc;\n")?;
    Ok(())
}
