//! Services where traits can stand: private, in functions, under a `cfg`, without methods, beside each other.

#![deny(warnings)]
#![allow(missing_docs)]

#[trunkline::service(mock)]
trait Empty {}

#[trunkline::service(mock)]
#[cfg(any())]
pub trait Absent {
    async fn get(&self, x: Missing);
}

#[trunkline::service(mock)]
#[deprecated]
pub trait Old {
    async fn get(&self);
}

#[trunkline::service(mock)]
pub trait r#Raw: Send + Sync + 'static {
    async fn get(&self);
}

mod inner {
    #[trunkline::service(mock)]
    pub(super) trait Restricted {
        async fn get(&self, value: Private) -> Private;
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Private;
}

struct Nothing;
impl Empty for Nothing {}
impl inner::Restricted for Nothing {
    async fn get(&self, value: inner::Private) -> inner::Private {
        value
    }
}

fn main() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Local;

    #[trunkline::service(mock)]
    trait InAFunction {
        async fn get(&self, local: &Local) -> Option<Local>;
    }

    impl InAFunction for Nothing {
        async fn get(&self, _: &Local) -> Option<Local> {
            None
        }
    }

    let _ = EmptyServer::new(Nothing);
    let _ = InAFunctionServer::new(Nothing);
    let _ = inner::RestrictedServer::new(Nothing);
    let _ = async |client: inner::RestrictedClient| client.get(inner::Private).await.is_ok();
}
