//! stub
use crate::results::Results;
use trunkline_benches::subject::Error;
pub(crate) struct Plot {
    pub(crate) name: &'static str,
    pub(crate) svg: String,
}
pub(crate) fn plots(_: &Results) -> Result<Vec<Plot>, Error> {
    Ok(Vec::new())
}
