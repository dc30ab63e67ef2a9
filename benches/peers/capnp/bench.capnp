@0xb6c1d0f49a3e7752;

# Twenty-four bytes as three words, which need no list and no pointer to one.
struct Item {
  id @0 :UInt64;
  a @1 :UInt64;
  b @2 :UInt64;
  c @3 :UInt64;
}

interface Bench {
  echo @0 (item :Item) -> (item :Item);
  upload @1 (bytes :Data) -> (checksum :UInt64);
}
