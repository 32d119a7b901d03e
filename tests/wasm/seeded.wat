;; Function ABI: 16 random bytes, then the clock twice. The third word of the iovec is not used.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "hearth_alloc") (param i32) (result i32) i32.const 65536)
  (func (export "hearth_task") (param $index i64) (param $at i32) (param $length i32) (result i64)
    (drop (call $random (i32.const 0) (i32.const 16)))
    (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 16)))
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 24)))
    (i64.const 32)))
