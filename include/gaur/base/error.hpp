// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <new>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gaur {

/// Errors that are not an errno of the host. Values start above every errno, so that one 16-bit
/// code holds both. Each comment names the number that the error carries beside its code
/// (`error::where`): an offset in the image file unless it says otherwise.
enum class errc : std::uint16_t {
    // Requests and life cycle.
    out_of_range = 4096,  ///< guest offset of the request
    read_only,            ///< guest offset of the request, or nothing
    cancelled,            ///< the image is gone, or the request was cancelled
    closed,               ///< the image has been closed
    poisoned,             ///< an earlier flush of the host failed: nothing more can be made durable
    image_full,           ///< no further host cluster can be addressed
    not_supported,        ///< the backend or the host file cannot do this
    bad_argument,         ///< the refused value
    too_many_files,       ///< depth of the backing chain
    reference_refused,    ///< the open policy does not allow the file that the image names
    format_missing,       ///< a backing file without a format: it is never probed
    backing_loop,         ///< a file is its own backing file
    backing_format_unknown, ///< neither qcow2 nor raw: see open_options::failed_format
    protocol_not_supported, ///< the backing file is named by nbd:, json:, …
    injected,             ///< a fault injected by a test
    held_for_writing,     ///< another holder of the file writes to it
    held_for_reading,     ///< another holder reads it, and this open would exclude readers
    writers_excluded,     ///< another holder excludes writers
    readers_excluded,     ///< another holder excludes readers
    share_needs_read_only, ///< io::locking::force_share with an open for writing
    snapshots_left_out,   ///< open_options::without_snapshots with an open for writing
    too_much_to_check,    ///< bytes that the check would read
    out_of_time,          ///< nothing: the check has reached its time limit
    target_is_read,       ///< nothing: the file to create is one that the caller reads
    ring_of_another_thread, ///< nothing: see io::uring::options::single_thread

    // The header (specification, "Header"); `where` is the value found unless noted.
    not_qcow2 = 4200,
    unsupported_version,
    truncated_header,     ///< size of the file
    cluster_bits,
    header_length,
    unknown_features,     ///< the unknown incompatible bits
    corrupt_image,        ///< the corrupt bit is set: may only be opened read-only
    dirty_image,          ///< the dirty bit is set: refcounts must be rebuilt before writing
    refcount_order,
    crypt_method,
    compression_type,
    compression_bit,      ///< incompatible bit 3 and the type disagree
    extended_l2,
    external_data_file,
    encrypted,
    subcluster_size,
    backing_offset,
    backing_size,
    backing_overlap,      ///< the name overlaps the header or the extensions
    extension_too_large,  ///< offset of the extension
    extension_duplicate,  ///< magic of the extension
    extension_malformed,  ///< magic of the extension
    l1_too_large,         ///< entries
    l1_too_small,         ///< entries
    l1_offset,
    refcount_table_missing,
    refcount_table_too_large, ///< clusters
    refcount_table_offset,
    snapshot_table_too_large, ///< entries
    snapshot_table_offset,
    snapshot_malformed,   ///< offset of the table's entry
    snapshot_l1_too_large, ///< bytes of all snapshots' L1 tables
    table_past_end,       ///< offset of a table that ends past the end of the file
    tables_overlap,       ///< offset of the second table
    refcount_too_low,     ///< host offset of a cluster that is in use and has refcount 0
    bitmaps_present,      ///< number of bitmaps, with an open for writing
    size_too_large,
    size_unaligned,       ///< the virtual size is not a multiple of 512
    header_full,          ///< extensions and names do not fit into the first cluster

    // Errors in tables, detected when a table is used.
    l1_entry = 4300,      ///< guest offset
    l2_entry,             ///< guest offset
    l2_past_end,          ///< guest offset
    zero_flag_in_v2,      ///< guest offset
    compressed_data,      ///< host offset of the compressed bytes
    no_decompressor,      ///< guest offset
    refcount_entry,       ///< offset in the refcount table
    refcount_overflow,    ///< host cluster
    refcount_underflow,   ///< host cluster
    metadata_overlap,     ///< host offset

    // Creation; `where` is the requested value.
    refcount_bits = 4400,
    lazy_refcounts,
    backing_format,       ///< its length
};

namespace detail {

struct errc_text {
    errc code;
    const char* text;
    enum class unit : std::uint8_t { none, offset, number, bits } where;
};

inline constexpr errc_text errc_texts[] = {
    {errc::out_of_range, "the request lies outside the virtual disk; ask for less",
     errc_text::unit::offset},
    {errc::read_only, "the image is open for reading only; open it for writing",
     errc_text::unit::none},
    {errc::cancelled, "the request was cancelled before it was done", errc_text::unit::none},
    {errc::closed, "the image is closed", errc_text::unit::none},
    {errc::poisoned, "an earlier flush of the host file failed, and the host may have dropped what "
                     "was written before it, so no later flush can promise anything; reopen the "
                     "image and write again what was not flushed",
     errc_text::unit::none},
    {errc::image_full, "no more host clusters can be addressed by this image",
     errc_text::unit::none},
    {errc::not_supported, "not supported by this backend or host file", errc_text::unit::none},
    {errc::bad_argument, "argument out of its range", errc_text::unit::number},
    {errc::too_many_files, "the backing chain is deeper than the limit; raise "
                           "open_options::max_depth (--max-depth) or commit the chain",
     errc_text::unit::number},
    {errc::reference_refused, "the image names another file and the open policy refuses to follow "
                              "it; allow it in open_options if the image is trusted",
     errc_text::unit::none},
    {errc::format_missing, "the backing file's format is not given in the image and is never "
                           "guessed; say it when opening (open_options::backing_format, "
                           "--backing-format), or put it into the image",
     errc_text::unit::none},
    {errc::target_is_read, "it is the file that is read, its backing file, or one further "
                           "below, and would be destroyed; name another file",
     errc_text::unit::none},
    {errc::backing_loop, "the backing chain comes back to a file that is already in it",
     errc_text::unit::none},
    {errc::backing_format_unknown,
     "the image says of its backing file a format that gaur does not read (it reads qcow2 and "
     "raw); convert the backing file, and name the new one in the image",
     errc_text::unit::none},
    {errc::protocol_not_supported,
     "the image names another file by a protocol (what comes before the first ':'); only paths and "
     "file: are supported. A path with a ':' is written with ./ in front",
     errc_text::unit::none},
    {errc::injected, "fault injected by a test", errc_text::unit::number},
    {errc::held_for_writing, "another process, or another open image of this one, holds it for "
                             "writing; close it there, or read it all the same with "
                             "locking::force_share (-U)",
     errc_text::unit::none},
    {errc::held_for_reading, "another process, or another open image of this one, holds it for "
                             "reading; close it there",
     errc_text::unit::none},
    {errc::writers_excluded, "another process, or another open image of this one, holds it and "
                             "lets nobody write to it meanwhile; close it there",
     errc_text::unit::none},
    {errc::readers_excluded, "another process, or another open image of this one, holds it for "
                             "itself alone; close it there",
     errc_text::unit::none},
    {errc::share_needs_read_only, "what is shared with a writer is opened for reading only",
     errc_text::unit::none},
    {errc::snapshots_left_out,
     "an image is opened without its snapshots for reading only: a writer has to know which "
     "clusters are theirs; check and repair it",
     errc_text::unit::none},
    {errc::too_much_to_check, "the check would read more of this image than "
                              "check_options::max_read allows; raise it if the image is trusted",
     errc_text::unit::number},
    {errc::out_of_time, "the check has not ended within check_options::max_time, and nothing was "
                        "changed; allow it more time if the image is trusted",
     errc_text::unit::none},
    {errc::ring_of_another_thread,
     "the io_uring backend has operations of another thread in flight and was made for one thread; "
     "make it with single_thread = false",
     errc_text::unit::none},
    {errc::not_qcow2, "not a qcow2 image (magic is not 51 46 49 fb)", errc_text::unit::number},
    {errc::unsupported_version, "unsupported qcow2 version (2 and 3 are known)",
     errc_text::unit::number},
    {errc::truncated_header, "the file is shorter than its qcow2 header", errc_text::unit::number},
    {errc::cluster_bits, "cluster_bits must be 9 to 21 (512 bytes to 2 MiB), or to what the limits "
                         "given allow",
     errc_text::unit::number},
    {errc::header_length,
     "header_length must be 104 or more, a multiple of 8 and at most a cluster",
     errc_text::unit::number},
    {errc::unknown_features, "the image needs incompatible features that gaur does not know",
     errc_text::unit::bits},
    {errc::corrupt_image, "the image is marked corrupt; open it read-only, or check and repair it",
     errc_text::unit::none},
    {errc::dirty_image, "the image was not closed cleanly and its refcounts may be stale; open it "
                        "read-only, or repair it first (gaur-img check -r all)",
     errc_text::unit::none},
    {errc::refcount_order, "refcount_order must be at most 6 (64 bits), and 4 in version 2",
     errc_text::unit::number},
    {errc::crypt_method, "unknown encryption method", errc_text::unit::number},
    {errc::compression_type, "unknown compression type, or one that is not supported yet (0, zlib, "
                             "is)",
     errc_text::unit::number},
    {errc::compression_bit, "compression type and incompatible bit 3 disagree",
     errc_text::unit::number},
    {errc::extended_l2, "extended L2 entries are not supported yet", errc_text::unit::none},
    {errc::external_data_file, "external data files are not supported yet", errc_text::unit::none},
    {errc::encrypted, "encrypted images are not supported yet", errc_text::unit::number},
    {errc::subcluster_size, "extended L2 entries need clusters of 16 KiB or more",
     errc_text::unit::number},
    {errc::backing_offset, "backing_file_offset lies outside the first cluster",
     errc_text::unit::offset},
    {errc::backing_size, "backing_file_size must be 1 to 1023 and end in the first cluster",
     errc_text::unit::number},
    {errc::backing_overlap, "the backing file's name lies over the header or its extensions",
     errc_text::unit::offset},
    {errc::extension_too_large, "a header extension reaches past the extension area",
     errc_text::unit::offset},
    {errc::extension_duplicate, "a header extension occurs twice", errc_text::unit::bits},
    {errc::extension_malformed, "a header extension has a wrong length or content",
     errc_text::unit::bits},
    {errc::l1_too_large, "the L1 table is larger than 32 MiB, or than the limits given allow",
     errc_text::unit::number},
    {errc::l1_too_small, "the L1 table is too small for the virtual disk", errc_text::unit::number},
    {errc::l1_offset, "l1_table_offset is zero, not a multiple of the cluster size, or too large",
     errc_text::unit::offset},
    {errc::refcount_table_missing, "the image has no refcount table", errc_text::unit::none},
    {errc::refcount_table_too_large,
     "the refcount table is larger than 8 MiB, or than the limits given allow",
     errc_text::unit::number},
    {errc::refcount_table_offset,
     "refcount_table_offset is zero, not a multiple of the cluster size, or too large",
     errc_text::unit::offset},
    {errc::snapshot_table_too_large,
     "more than 65536 snapshots, a snapshot table over 64 MiB, or more than the limits given allow",
     errc_text::unit::number},
    {errc::snapshot_table_offset,
     "snapshots_offset is zero, not a multiple of the cluster size, or too large",
     errc_text::unit::offset},
    {errc::snapshot_malformed, "an entry of the snapshot table is malformed",
     errc_text::unit::offset},
    {errc::snapshot_l1_too_large,
     "the L1 tables of the snapshots, which a writer has to read, have more bytes than "
     "limits::snapshot_l1_bytes allows; open the image read-only, delete snapshots, or raise the "
     "limit if the image is trusted",
     errc_text::unit::number},
    {errc::table_past_end, "a table ends past the end of the file", errc_text::unit::offset},
    {errc::tables_overlap, "two of the image's tables overlap", errc_text::unit::offset},
    {errc::refcount_too_low,
     "a cluster in use behind all others has refcount 0, so that a write could be put over it; "
     "open the image read-only, or repair it first (gaur-img check -r all)",
     errc_text::unit::offset},
    {errc::bitmaps_present,
     "the image has persistent bitmaps, which would no longer be valid after a write; remove them "
     "first (qemu-img bitmap --remove), or open it with bitmaps::invalidate to give them up "
     "(gaur-img: --invalidate-bitmaps)",
     errc_text::unit::number},
    {errc::size_too_large, "the virtual disk is too large for its L1 table or for a file",
     errc_text::unit::number},
    {errc::size_unaligned, "the virtual size is no multiple of 512: open it read-only",
     errc_text::unit::number},
    {errc::header_full, "header, extensions and backing file name do not fit the first cluster; "
                        "use larger clusters or a shorter name",
     errc_text::unit::number},
    {errc::l1_entry, "the L1 entry of this guest offset is malformed; run a check",
     errc_text::unit::offset},
    {errc::l2_entry, "the L2 entry of this guest offset is malformed; run a check",
     errc_text::unit::offset},
    {errc::l2_past_end, "the L2 entry of this guest offset points past the end of the file",
     errc_text::unit::offset},
    {errc::zero_flag_in_v2, "a zero cluster in a version 2 image; run a check",
     errc_text::unit::offset},
    {errc::compressed_data, "compressed data does not inflate to one cluster",
     errc_text::unit::offset},
    {errc::no_decompressor, "the cluster is compressed; name a decompressor in open_options "
                            "(gaur/qcow2/zlib.hpp)",
     errc_text::unit::offset},
    {errc::refcount_entry, "a refcount table entry is malformed; run a check",
     errc_text::unit::offset},
    {errc::refcount_overflow, "a refcount would exceed its width", errc_text::unit::number},
    {errc::refcount_underflow, "a refcount would go below zero; run a check",
     errc_text::unit::number},
    {errc::metadata_overlap, "a write would land on the image's own metadata; run a check",
     errc_text::unit::offset},
    {errc::refcount_bits, "refcount_bits must be 1, 2, 4, 8, 16, 32 or 64, and 16 in version 2",
     errc_text::unit::number},
    {errc::lazy_refcounts, "lazy refcounts need version 3", errc_text::unit::none},
    {errc::backing_format, "a backing format needs a backing file, and has at most 15 bytes",
     errc_text::unit::number},
};

constexpr const errc_text* find_text(errc code) noexcept {
    for (const errc_text& row : errc_texts) {
        if (row.code == code) { return &row; }
    }
    return nullptr;
}

class gaur_category : public std::error_category {
  public:
    const char* name() const noexcept override { return "gaur"; }
    std::string message(int code) const override {
        const errc_text* row = find_text(static_cast<errc>(code));
        return row != nullptr ? row->text : "unknown gaur error";
    }
};

} // namespace detail

/// The category of `errc`, for code that uses std::error_code.
inline const std::error_category& category() noexcept {
    static const detail::gaur_category instance;
    return instance;
}

/// What went wrong and where: 8 bytes, trivially copyable. The code is an errno below 4096 and an
/// `errc` from 4096 on. `where` is the offset or number that belongs to that errc (low 48 bits).
class error {
  public:
    constexpr error(errc code, std::uint64_t where = 0) noexcept
        : code_(static_cast<std::uint16_t>(code)), where_(where & where_mask) {}

    /// The only conversion from an errno to an error.
    static constexpr error from_errno(int host_errno, std::uint64_t where = 0) noexcept {
        error e(errc::not_supported, where);
        e.code_ = static_cast<std::uint16_t>(host_errno);
        return e;
    }

    constexpr bool is_host() const noexcept { return code_ < 4096; }
    constexpr int host_errno() const noexcept { return is_host() ? static_cast<int>(code_) : 0; }
    constexpr std::uint64_t where() const noexcept { return where_; }

    friend constexpr bool operator==(error a, errc b) noexcept {
        return a.code_ == static_cast<std::uint16_t>(b);
    }
    friend constexpr bool operator==(error a, error b) noexcept { return a.code_ == b.code_; }

    operator std::error_code() const noexcept {
        return is_host() ? std::error_code(code_, std::generic_category())
                         : std::error_code(code_, category());
    }

    /// A sentence: what, why, where, and what to do.
    std::string message() const {
        if (is_host()) { return std::generic_category().message(code_); }
        const detail::errc_text* row = detail::find_text(static_cast<errc>(code_));
        std::string text = row != nullptr ? row->text : "unknown gaur error";
        char number[40];
        switch (row != nullptr ? row->where : detail::errc_text::unit::none) {
        case detail::errc_text::unit::none: return text;
        case detail::errc_text::unit::offset:
            std::snprintf(number, sizeof number, " (at offset %#llx)",
                          static_cast<unsigned long long>(where_));
            break;
        case detail::errc_text::unit::number:
            std::snprintf(number, sizeof number, " (found %llu)",
                          static_cast<unsigned long long>(where_));
            break;
        case detail::errc_text::unit::bits:
            std::snprintf(number, sizeof number, " (%#llx)",
                          static_cast<unsigned long long>(where_));
            break;
        }
        return text + number;
    }

  private:
    static constexpr std::uint64_t where_mask = (std::uint64_t{1} << 48) - 1;
    std::uint64_t code_ : 16;
    std::uint64_t where_ : 48;
};

static_assert(sizeof(error) == 8 && std::is_trivially_copyable_v<error>);

namespace detail {

/// The union inside result<T>. Has a specialization for types that are not trivially copyable: g++
/// 12 does not treat a class with constrained defaulted members as trivially copyable.
template <class T, bool = std::is_trivially_copyable_v<T>>
struct result_storage {
    union {
        T value;
        gaur::error why;
    };
    bool has_value;

    explicit result_storage(T&& v) noexcept : value(std::move(v)), has_value(true) {}
    explicit result_storage(gaur::error e) noexcept : why(e), has_value(false) {}
};

template <class T>
struct result_storage<T, false> {
    union {
        T value;
        gaur::error why;
    };
    bool has_value;

    explicit result_storage(T&& v) noexcept : value(std::move(v)), has_value(true) {}
    explicit result_storage(gaur::error e) noexcept : why(e), has_value(false) {}
    result_storage(result_storage&& other) noexcept : has_value(other.has_value) { take(other); }
    result_storage& operator=(result_storage&& other) noexcept {
        if (this != &other) {
            drop();
            has_value = other.has_value;
            take(other);
        }
        return *this;
    }
    ~result_storage() { drop(); }

  private:
    // noinline: otherwise g++ 12 reports a false use of an uninitialized value in a user's program.
    [[gnu::noinline]] void drop() noexcept {
        if (has_value) { value.~T(); }
    }
    void take(result_storage& other) noexcept {
        if (has_value) {
            ::new (static_cast<void*>(&value)) T(std::move(other.value));
        } else {
            why = other.why;
        }
    }
};

} // namespace detail

/// A value or an error, modelled on std::expected (which libstdc++ 12 has only in C++23).
template <class T>
class [[nodiscard]] result {
    static_assert(!std::is_reference_v<T>, "hold a pointer instead");
    static_assert(std::is_nothrow_move_constructible_v<T>, "results move without throwing");

  public:
    using value_type = T;

    result(T value) noexcept : storage_(std::move(value)) {}
    result(gaur::error why) noexcept : storage_(why) {}
    result(errc code, std::uint64_t where = 0) noexcept : storage_(gaur::error(code, where)) {}

    bool has_value() const noexcept { return storage_.has_value; }
    explicit operator bool() const noexcept { return storage_.has_value; }

    T& value() & noexcept {
        GAUR_ASSERT(has_value());
        return storage_.value;
    }
    const T& value() const& noexcept {
        GAUR_ASSERT(has_value());
        return storage_.value;
    }
    T&& value() && noexcept {
        GAUR_ASSERT(has_value());
        return std::move(storage_.value);
    }
    T& operator*() & noexcept { return value(); }
    const T& operator*() const& noexcept { return value(); }
    T&& operator*() && noexcept { return std::move(*this).value(); }
    T* operator->() noexcept { return &value(); }
    const T* operator->() const noexcept { return &value(); }

    gaur::error error() const noexcept {
        GAUR_ASSERT(!has_value());
        return storage_.why;
    }

  private:
    detail::result_storage<T> storage_;
};

/// Success, or an error.
template <>
class [[nodiscard]] result<void> {
  public:
    using value_type = void;

    constexpr result() noexcept : error_(errc::not_supported), has_value_(true) {}
    constexpr result(gaur::error why) noexcept : error_(why), has_value_(false) {}
    constexpr result(errc code, std::uint64_t where = 0) noexcept
        : result(gaur::error(code, where)) {}

    constexpr bool has_value() const noexcept { return has_value_; }
    constexpr explicit operator bool() const noexcept { return has_value_; }
    void value() const noexcept { GAUR_ASSERT(has_value_); }
    gaur::error error() const noexcept {
        GAUR_ASSERT(!has_value_);
        return error_;
    }

  private:
    gaur::error error_;
    bool has_value_;
};

static_assert(sizeof(result<std::uint64_t>) == 16 &&
              std::is_trivially_copyable_v<result<std::uint64_t>>);

} // namespace gaur
