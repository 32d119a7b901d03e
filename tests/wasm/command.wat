;; Command ABI: stdin's first byte chooses. Everything else of stdin is the choice's argument.
;; e copy stdin to stdout            x exit with the next byte      f flood stdout            s poll_oneoff, exit with its errno
;; n sock_send, exit with its errno  a argv to stdout               d random and clock        m many files in /out, exit with errno
;; w fill one file in /out, exit with the errno          h grow a file by fd_filestat_set_size to 1 TiB, exit with errno
;; r copy /in/data to /out/copy      p open the path that follows in the next byte's descriptor, exit with errno
;; c append one byte to /ckpt/state (write, sync, close); trap until it holds 3 bytes, then copy them to stdout
;; y symlink, exit with errno        l endless loop               i write to /in/data, exit with errno
;; u unlink files that stay open, exit with the errno of the last write   E flood stderr, then exit 3
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_sync" (func $sync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 100) "state")
  (data (i32.const 110) "data")
  (data (i32.const 120) "copy")
  (data (i32.const 130) "file00")
  ;; the iovec at 0 (address, length), the count of a transfer at 8, a new descriptor at 12, buffers from 65536
  (func $transfer (param $fd i32) (param $at i32) (param $length i32) (param $writes i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (if (result i32) (local.get $writes)
      (then (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (else (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))))
  (func $create (param $folder i32) (param $name i32) (param $length i32) (param $flags i32) (result i32)
    (call $open (local.get $folder) (i32.const 0) (local.get $name) (local.get $length) (local.get $flags)
      (i64.const 0x1fffffff) (i64.const 0) (i32.const 0) (i32.const 12)))
  (func $must (param $errno i32) (if (local.get $errno) (then (call $exit (i32.add (i32.const 100) (local.get $errno))))))
  (func $count (result i32) (i32.load (i32.const 8)))
  (func $new (result i32) (i32.load (i32.const 12)))
  (func $flood (param $fd i32)
    (loop $on
      (call $must (call $transfer (local.get $fd) (i32.const 65536) (i32.const 65536) (i32.const 1)))
      (br $on)))
  (func (export "_start") (local $act i32) (local $length i32) (local $n i32) (local $errno i32)
    (call $must (call $transfer (i32.const 0) (i32.const 65536) (i32.const 65536) (i32.const 0)))
    (local.set $length (i32.sub (call $count) (i32.const 1)))
    (local.set $act (i32.load8_u (i32.const 65536)))
    (if (i32.eq (local.get $act) (i32.const 0x65)) ;; e
      (then (call $must (call $transfer (i32.const 1) (i32.const 65537) (local.get $length) (i32.const 1)))))
    (if (i32.eq (local.get $act) (i32.const 0x78)) (then (call $exit (i32.load8_u (i32.const 65537))))) ;; x
    (if (i32.eq (local.get $act) (i32.const 0x66)) (then (call $flood (i32.const 1)))) ;; f
    (if (i32.eq (local.get $act) (i32.const 0x45)) ;; E
      (then
        (loop $on
          (call $must (call $transfer (i32.const 2) (i32.const 65536) (i32.const 65536) (i32.const 1)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $on (i32.lt_u (local.get $n) (i32.const 200))))
        (call $exit (i32.const 3))))
    (if (i32.eq (local.get $act) (i32.const 0x73)) ;; s
      (then (call $exit (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 8)))))
    (if (i32.eq (local.get $act) (i32.const 0x6e)) ;; n
      (then (call $exit (call $send (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8)))))
    (if (i32.eq (local.get $act) (i32.const 0x79)) ;; y
      (then (call $exit (call $symlink (i32.const 110) (i32.const 4) (i32.const 4) (i32.const 120) (i32.const 4)))))
    (if (i32.eq (local.get $act) (i32.const 0x61)) ;; a
      (then
        (call $must (call $args_sizes (i32.const 8) (i32.const 12)))
        (local.set $length (i32.load (i32.const 12)))
        (call $must (call $args (i32.const 1024) (i32.const 65536)))
        (call $must (call $transfer (i32.const 1) (i32.const 65536) (local.get $length) (i32.const 1)))))
    (if (i32.eq (local.get $act) (i32.const 0x64)) ;; d
      (then
        (call $must (call $random (i32.const 65536) (i32.const 24)))
        (call $must (call $clock (i32.const 0) (i64.const 0) (i32.const 65560)))
        (call $must (call $transfer (i32.const 1) (i32.const 65536) (i32.const 32) (i32.const 1)))))
    (if (i32.eq (local.get $act) (i32.const 0x77)) ;; w
      (then
        (call $must (call $create (i32.const 4) (i32.const 120) (i32.const 4) (i32.const 1)))
        (loop $on
          (local.set $errno (call $transfer (call $new) (i32.const 65536) (i32.const 65536) (i32.const 1)))
          (br_if $on (i32.eqz (local.get $errno))))
        (call $exit (local.get $errno))))
    (if (i32.eq (local.get $act) (i32.const 0x68)) ;; h
      (then
        (call $must (call $create (i32.const 4) (i32.const 120) (i32.const 4) (i32.const 1)))
        (call $exit (call $set_size (call $new) (i64.const 0x10000000000)))))
    (if (i32.eq (local.get $act) (i32.const 0x6d)) ;; m
      (then
        (loop $on
          (i32.store8 (i32.const 134) (i32.add (i32.const 65) (i32.rem_u (local.get $n) (i32.const 26))))
          (i32.store8 (i32.const 135)
            (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 26)) (i32.const 10))))
          (i32.store8 (i32.const 133)
            (i32.add (i32.const 65) (i32.rem_u (i32.div_u (local.get $n) (i32.const 260)) (i32.const 26))))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (local.set $errno (call $create (i32.const 4) (i32.const 130) (i32.const 6) (i32.const 5)))
          (if (i32.eqz (local.get $errno)) (then (drop (call $close (call $new)))))
          (br_if $on (i32.eqz (local.get $errno))))
        (call $exit (local.get $errno))))
    (if (i32.eq (local.get $act) (i32.const 0x75)) ;; u
      (then
        (loop $on
          (call $must (call $create (i32.const 4) (i32.const 120) (i32.const 4) (i32.const 1)))
          (local.set $errno (call $transfer (call $new) (i32.const 65536) (i32.const 65536) (i32.const 1)))
          (call $must (call $unlink (i32.const 4) (i32.const 120) (i32.const 4)))
          (br_if $on (i32.eqz (local.get $errno))))
        (call $exit (local.get $errno))))
    (if (i32.eq (local.get $act) (i32.const 0x72)) ;; r
      (then
        (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 110) (i32.const 4) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12)))
        (call $must (call $transfer (call $new) (i32.const 65536) (i32.const 65536) (i32.const 0)))
        (local.set $length (call $count))
        (call $must (call $create (i32.const 4) (i32.const 120) (i32.const 4) (i32.const 1)))
        (call $must (call $transfer (call $new) (i32.const 65536) (local.get $length) (i32.const 1)))))
    (if (i32.eq (local.get $act) (i32.const 0x69)) ;; i
      (then (call $exit (call $create (i32.const 3) (i32.const 110) (i32.const 4) (i32.const 0)))))
    (if (i32.eq (local.get $act) (i32.const 0x70)) ;; p
      (then (call $exit
        (call $create (i32.load8_u (i32.const 65537)) (i32.const 65538)
          (i32.sub (local.get $length) (i32.const 1)) (i32.const 1)))))
    (if (i32.eq (local.get $act) (i32.const 0x6c)) (then (loop $on (br $on)))) ;; l
    (if (i32.eq (local.get $act) (i32.const 0x63)) ;; c
      (then
        (call $must (call $create (i32.const 5) (i32.const 100) (i32.const 5) (i32.const 1)))
        (call $must (call $transfer (call $new) (i32.const 65536) (i32.const 65536) (i32.const 0)))
        (local.set $n (call $count))
        (i32.store8 (i32.const 1000) (i32.add (i32.const 97) (local.get $n)))
        (call $must (call $transfer (call $new) (i32.const 1000) (i32.const 1) (i32.const 1)))
        (call $must (call $sync (call $new)))
        (call $must (call $close (call $new)))
        (if (i32.lt_u (local.get $n) (i32.const 2)) (then unreachable))
        (i32.store8 (i32.add (i32.const 65536) (local.get $n)) (i32.load8_u (i32.const 1000)))
        (call $must (call $transfer (i32.const 1) (i32.const 65536) (i32.const 3) (i32.const 1)))))))
