//! Generates, beside tonic's client and server of a service, one module more: a client that calls the service as a plain
//! function when it lives in the same process, and `offer`, which makes a service callable both ways.

use std::fmt::{Result, Write};

use prost_build::{Comments, Config, Method, Service, ServiceGenerator};

/// What a build script compiles its descriptors with.
pub fn config(codec: &str) -> Config {
    let tonic = tonic_prost_build::configure().codec_path(codec).service_generator();
    let mut config = Config::new();
    config.service_generator(Box::new(Direct { tonic }));
    config
}

struct Direct {
    tonic: Box<dyn ServiceGenerator>,
}

impl ServiceGenerator for Direct {
    fn generate(&mut self, service: Service, code: &mut String) {
        write_module(&service, code).expect("strings take everything");
        self.tonic.generate(service, code);
    }
}

fn write_module(service: &Service, code: &mut String) -> Result {
    let Service { name, package, proto_name, methods, .. } = service;
    let module = snake(name);
    let full = format!("{package}.{proto_name}");
    writeln!(code, "/// The service `{full}`, here or elsewhere.")?;
    writeln!(code, "pub mod {module} {{")?;
    writeln!(code, "#![allow(dead_code, missing_docs)]")?;
    writeln!(code, "use super::{module}_client::{name}Client;")?;
    writeln!(code, "use super::{module}_server::{{{name}, {name}Server}};")?;
    writeln!(code, "use ::manifold_contract::direct::{{self, DirectChannel, Layers as _, MAX_MESSAGE, Offer}};")?;
    writeln!(code, "use ::std::sync::Arc;")?;
    writeln!(code, "use ::tonic::{{Request, Response, Status}};")?;

    writeln!(code, "/// What can be called without encoding: whatever is asked with one message.")?;
    writeln!(code, "pub trait Direct: Send + Sync {{")?;
    for method in direct(methods) {
        writeln!(code, "{};", signature(method))?;
    }
    writeln!(code, "}}")?;
    writeln!(code, "impl<T: {name}> Direct for T {{")?;
    for method in direct(methods) {
        let call = format!("<T as {name}>::{}(self, request)", method.name);
        let body = match method.server_streaming {
            true => format!(
                "Box::pin(async move {{ Ok({call}.await?.map(|answers| Box::pin(answers) as direct::BoxStream<_>)) }})"
            ),
            false => call,
        };
        writeln!(code, "{} {{ {body} }}", signature(method))?;
    }
    writeln!(code, "}}")?;

    writeln!(code, "/// Offers a service: to this process as it is, to others over gRPC.")?;
    writeln!(code, "pub fn offer<T: {name}>(service: T) -> Offer<{name}Server<T>> {{")?;
    writeln!(code, "let service = Arc::new(service);")?;
    writeln!(code, "let direct: Arc<dyn Direct> = service.clone();")?;
    writeln!(code, "let server = {name}Server::from_arc(service)")?;
    writeln!(code, ".max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);")?;
    writeln!(code, "Offer {{ server, direct: Some(Arc::new(direct)) }}")?;
    writeln!(code, "}}")?;

    doc(code, &service.comments)?;
    writeln!(code, "#[derive(Clone, Debug)]")?;
    writeln!(code, "pub struct Client<C> {{ channel: C, remote: {name}Client<C> }}")?;
    writeln!(code, "impl<C: DirectChannel> Client<C> {{")?;
    writeln!(code, "/// A client over a channel.")?;
    writeln!(code, "pub fn new(channel: C) -> Self {{")?;
    writeln!(code, "let remote = {name}Client::new(channel.clone())")?;
    writeln!(code, ".max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);")?;
    writeln!(code, "Self {{ channel, remote }}")?;
    writeln!(code, "}}")?;
    for method in methods {
        doc(code, &method.comments)?;
        write_call(code, &full, method)?;
    }
    writeln!(code, "}}\n}}")
}

/// A method of the client.
fn write_call(code: &mut String, service: &str, method: &Method) -> Result {
    let Method { name, proto_name, input_type, output_type, server_streaming, .. } = method;
    if method.client_streaming {
        let stream = if *server_streaming {
            format!("::tonic::Streaming<super::{output_type}>")
        } else {
            format!("super::{output_type}")
        };
        writeln!(
            code,
            "pub async fn {name}(&self, request: impl ::tonic::IntoStreamingRequest<Message = super::{input_type}>)"
        )?;
        writeln!(code, "-> Result<Response<{stream}>, Status> {{")?;
        return writeln!(code, "self.remote.clone().{name}(request).await }}");
    }
    let (run, remote) = match server_streaming {
        true => (
            "stream",
            format!(
                "Ok(self.remote.clone().{name}(request).await?.map(|answers| Box::pin(answers) as direct::BoxStream<_>))"
            ),
        ),
        false => ("unary", format!("self.remote.clone().{name}(request).await")),
    };
    writeln!(code, "pub async fn {name}(&self, request: Request<super::{input_type}>) -> {} {{", answer(method))?;
    writeln!(code, "match self.channel.direct::<Arc<dyn Direct>>(\"{service}\") {{")?;
    writeln!(code, "Some(service) => {{ let mut request = request;")?;
    writeln!(code, "let layers = self.channel.enter(\"/{service}/{proto_name}\", request.extensions_mut());")?;
    writeln!(code, "layers.{run}(service.{name}(request)).await }}")?;
    writeln!(code, "None => {remote},")?;
    writeln!(code, "}}\n}}")
}

fn direct(methods: &[Method]) -> impl Iterator<Item = &Method> {
    methods.iter().filter(|method| !method.client_streaming)
}

fn signature(method: &Method) -> String {
    let Method { name, input_type, .. } = method;
    format!(
        "fn {name}<'a>(&'a self, request: Request<super::{input_type}>) -> direct::BoxFuture<'a, {}>",
        answer(method)
    )
}

fn answer(method: &Method) -> String {
    match method.server_streaming {
        true => format!("Result<Response<direct::BoxStream<super::{}>>, Status>", method.output_type),
        false => format!("Result<Response<super::{}>, Status>", method.output_type),
    }
}

fn doc(code: &mut String, comments: &Comments) -> Result {
    comments.leading.iter().flat_map(|block| block.lines()).try_for_each(|line| writeln!(code, "///{line}"))
}

/// `ApiKeys` becomes `api_keys`, as tonic names its modules.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
