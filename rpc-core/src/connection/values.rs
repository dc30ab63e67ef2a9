//! What handlers keep with a connection: one value of each type.

use std::any::{Any, TypeId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Connection;

type Value = Arc<dyn Any + Send + Sync>;

/// At most one value of each type; `None` once the connection has ended. Nobody's code runs under the lock, not even a
/// value's drop.
#[derive(Debug)]
pub(crate) struct Values(Mutex<Option<Vec<(TypeId, Value)>>>);

impl Default for Values {
    fn default() -> Self {
        Values(Mutex::new(Some(Vec::new())))
    }
}

impl Values {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<(TypeId, Value)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, of: TypeId) -> Option<Value> {
        self.lock().as_ref()?.iter().find(|(ty, _)| *ty == of).map(|(_, value)| Arc::clone(value))
    }

    /// Puts `value` in, if there is none of its type yet or it `replaces` that. What is not in there afterwards comes back.
    fn put(&self, of: TypeId, value: Value, replaces: bool) -> Option<Value> {
        let mut values = self.lock();
        let Some(values) = &mut *values else {
            return Some(value);
        };
        match values.iter_mut().find(|(ty, _)| *ty == of) {
            Some((_, there)) if replaces => Some(std::mem::replace(there, value)),
            Some(_) => Some(value),
            None => {
                values.push((of, value));
                None
            }
        }
    }

    fn remove(&self, of: TypeId) -> Option<Value> {
        let mut values = self.lock();
        let values = values.as_mut()?;
        let at = values.iter().position(|(ty, _)| *ty == of)?;
        Some(values.swap_remove(at).1)
    }

    /// The connection has ended.
    pub(super) fn end(&self) {
        let values = self.lock().take();
        for value in values.into_iter().flatten() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
        }
    }
}

impl Connection {
    /// Keeps a value with the connection, one of each type: what its handlers have to know of each other. It goes when the
    /// connection has ended, or with its last `Arc` if that is later. What is put in after the end goes at once.
    ///
    /// The value of the same type that was there before is gone; handlers that hold its `Arc` still do.
    ///
    /// ```
    /// # use trunkline_core::Context;
    /// struct Session {
    ///     user: String,
    /// }
    ///
    /// async fn log_in(name: &str, cx: &Context) {
    ///     cx.connection().insert(Session { user: name.to_owned() });
    /// }
    ///
    /// async fn whoami(cx: &Context) -> Option<String> {
    ///     cx.connection().get::<Session>().map(|session| session.user.clone())
    /// }
    /// ```
    pub fn insert<T: Any + Send + Sync>(&self, value: T) {
        self.link.values().put(TypeId::of::<T>(), Arc::new(value), true);
    }

    /// The value of this type that is kept with the connection.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.link.values().get(TypeId::of::<T>())?.downcast().ok()
    }

    /// The same, or else that of `make`, which is kept from now on. Where several handlers come here at once, all get
    /// the same value; `make` may have been run for another that is dropped.
    pub fn get_or_insert_with<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(value) = self.get() {
            return value;
        }
        let value = Arc::new(make());
        self.link.values().put(TypeId::of::<T>(), Arc::clone(&value) as Value, false);
        self.get().unwrap_or(value)
    }

    /// Takes the value of this type away from the connection.
    pub fn remove<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.link.values().remove(TypeId::of::<T>())?.downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Looks at the values when it goes, and panics if it is told to.
    struct Curious {
        values: Arc<Values>,
        drops: Arc<AtomicUsize>,
        panics: bool,
    }

    impl Drop for Curious {
        fn drop(&mut self) {
            self.values.get(TypeId::of::<Curious>());
            self.drops.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics, "as it was told to");
        }
    }

    fn put<T: Any + Send + Sync>(values: &Values, value: T) {
        values.put(TypeId::of::<T>(), Arc::new(value), true);
    }

    fn get<T: Any + Send + Sync>(values: &Values) -> Option<Arc<T>> {
        values.get(TypeId::of::<T>())?.downcast().ok()
    }

    #[test]
    fn there_is_one_value_of_each_type() {
        let values = Values::default();
        assert!(get::<u32>(&values).is_none());
        put(&values, 1u32);
        put(&values, "text");
        put(&values, 2u32);
        assert_eq!(get::<u32>(&values).as_deref(), Some(&2));
        assert_eq!(get::<&str>(&values).as_deref(), Some(&"text"));
        let rest = values.put(TypeId::of::<u32>(), Arc::new(3u32), false);
        assert_eq!(rest.and_then(|rest| rest.downcast::<u32>().ok()).as_deref(), Some(&3));
        assert!(values.remove(TypeId::of::<u32>()).is_some());
        assert!(get::<u32>(&values).is_none());
    }

    #[test]
    fn the_end_drops_all_of_them_once_and_takes_no_more() {
        let (values, drops) = (Arc::new(Values::default()), Arc::new(AtomicUsize::new(0)));
        let curious = |panics| Curious { values: Arc::clone(&values), drops: Arc::clone(&drops), panics };
        put(&values, curious(true));
        put(&values, 1u32);
        values.end();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert!(get::<u32>(&values).is_none());
        put(&values, curious(false));
        assert_eq!(drops.load(Ordering::Relaxed), 2);
        values.end();
    }

    #[test]
    fn what_is_replaced_may_look_while_it_goes() {
        let (values, drops) = (Arc::new(Values::default()), Arc::new(AtomicUsize::new(0)));
        for _ in 0..2 {
            put(&values, Curious { values: Arc::clone(&values), drops: Arc::clone(&drops), panics: false });
        }
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        // Or it would keep itself.
        values.end();
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    }
}
