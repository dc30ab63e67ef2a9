//! A trait made by `macro_rules!`: names, types, documentation and options come from outside.

#![deny(warnings)]
#![allow(missing_docs)]

macro_rules! store {
    ($vis:vis $name:ident, $doc:literal, $key:ty, $value:ty, $lent:ty, $wire:literal) => {
        #[doc = $doc]
        #[trunkline::service(name = $wire)]
        $vis trait $name {
            #[doc = $doc]
            #[rpc(name = $wire, timeout = "1s")]
            async fn get(&self, key: $key) -> $value;
            async fn put(&self, key: $key, value: $lent, times: u32) -> Result<$value, String> {
                let _ = (key, value);
                if times == 0 { Err(String::new()) } else { Ok(self.get(key).await) }
            }
        }
    };
}

store!(pub Numbers, "Numbers.", u32, Option<Vec<u8>>, &[u8], "numbers");
store!(pub(crate) Texts, "Texts.", &str, String, &str, "texts");

struct Both;

impl Numbers for Both {
    async fn get(&self, key: u32) -> Option<Vec<u8>> {
        Some(key.to_le_bytes().to_vec())
    }
}

impl Texts for Both {
    async fn get(&self, key: &str) -> String {
        key.to_owned()
    }
}

fn main() {
    let _ = (NumbersServer::new(Both), TextsServer::new(Both));
    let _ = async |numbers: NumbersClient, texts: TextsClient| (numbers.get(1).await, texts.put("", "", 1).await);
}
