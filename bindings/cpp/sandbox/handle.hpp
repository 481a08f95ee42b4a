/// \file
/// Part of sandbox.hpp, which is to be included: what all handles are made of.

#ifndef SANDBOX_HANDLE_HPP
#define SANDBOX_HANDLE_HPP

#include <sandbox.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "error.hpp"

namespace [[gnu::visibility("default")]] sandbox {

namespace detail {

/// What a contiguous container has its elements as; void for anything else.
template <class Container, class = void> struct element {
    using type = void;
};
template <class Container>
struct element<Container, std::void_t<decltype(std::data(std::declval<Container &>())),
                                      decltype(std::size(std::declval<Container &>()))>> {
    using type = std::remove_pointer_t<decltype(std::data(std::declval<Container &>()))>;
};

template <class T> constexpr bool is_byte = sizeof(T) == 1 && std::is_trivially_copyable_v<T>;
template <> inline constexpr bool is_byte<void> = false;
template <> inline constexpr bool is_byte<const void> = false;

template <class T> constexpr bool is_character = std::is_same_v<T, char>;
#ifdef __cpp_char8_t
template <> inline constexpr bool is_character<char8_t> = true;
#endif

template <class Container> constexpr bool is_byte_container = is_byte<typename element<Container>::type>;
template <class Container>
constexpr bool is_byte_buffer = is_byte_container<Container> && !std::is_const_v<typename element<Container>::type>;

} // namespace detail

/// Bytes that a function reads: those of a std::string, std::string_view, string literal, std::vector, std::array,
/// std::span, … whose elements are one byte each. Like a std::string_view it does not own them.
///
/// An array has as many bytes as it has elements, also one of char that holds shorter text, as it has for std::span.
/// Only of an array of const characters, which is a string literal, the NUL at its end is none of them.
class bytes_view {
public:
    /// No bytes.
    constexpr bytes_view() noexcept = default;

    /// `size` bytes at `data`.
    bytes_view(const void *data, std::size_t size) noexcept
        : data_(static_cast<const std::uint8_t *>(data)), size_(size) {}

    /// The characters of a string literal, with every NUL among them but the last.
    template <class Char, std::size_t Size, class = std::enable_if_t<detail::is_character<Char>>>
    bytes_view(const Char (&literal)[Size]) noexcept
        : bytes_view(static_cast<const void *>(literal), literal[Size - 1] == Char() ? Size - 1 : Size) {}

    /// All elements of an array.
    template <class Byte, std::size_t Size,
              class = std::enable_if_t<detail::is_byte<Byte> && !std::is_const_v<Byte>>>
    bytes_view(Byte (&array)[Size]) noexcept : bytes_view(static_cast<const void *>(array), Size) {}

    /// Those of text, or of a contiguous container.
    template <class Source, class = std::enable_if_t<std::is_convertible_v<const Source &, std::string_view> ||
                                                     detail::is_byte_container<const Source>>>
    bytes_view(const Source &source) noexcept {
        if constexpr (std::is_convertible_v<const Source &, std::string_view>) {
            const std::string_view text = source;
            *this = bytes_view(text.data(), text.size());
        } else {
            *this = bytes_view(std::data(source), std::size(source));
        }
    }

    /// The first of them.
    const std::uint8_t *data() const noexcept { return data_; }

    /// How many they are.
    std::size_t size() const noexcept { return size_; }

private:
    const std::uint8_t *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Room that a function writes bytes to: that of a std::string, std::vector, std::array, array, std::span, … of the
/// size that it has. It does not own it.
class buffer_view {
public:
    /// Room for `size` bytes at `data`.
    buffer_view(void *data, std::size_t size) noexcept : data_(static_cast<std::uint8_t *>(data)), size_(size) {}

    /// The elements of a contiguous container.
    template <class Target, class = std::enable_if_t<detail::is_byte_buffer<Target>>>
    buffer_view(Target &&target) noexcept : buffer_view(std::data(target), std::size(target)) {}

    /// Where it begins.
    std::uint8_t *data() const noexcept { return data_; }

    /// How many bytes it has room for.
    std::size_t size() const noexcept { return size_; }

private:
    std::uint8_t *data_;
    std::size_t size_;
};

namespace detail {

template <error_kind... Kinds> [[noreturn]] void throw_as(std::shared_ptr<const sbx_error> told) {
    const auto kind = static_cast<error_kind>(sbx_error_status(told.get()));
    ((kind == Kinds ? throw error_of<Kinds>(std::move(told)) : void()), ...);
    throw error(std::move(told));
}

/// Throws what a function of the C ABI answered.
[[noreturn]] inline void fail(sbx_error *told) {
    using k = error_kind;
    throw_as<k::invalid_argument, k::config, k::async_context, k::forked, k::closed, k::not_found, k::conflict,
             k::permission_denied, k::quota, k::storage_full, k::detached_not_found, k::pool_empty,
             k::file_not_found, k::file_exists,
             k::is_a_directory, k::not_a_directory, k::directory_not_empty, k::read_only, k::busy, k::name_too_long,
             k::unavailable, k::connect, k::authentication,
             k::host_key_mismatch, k::disconnected, k::timed_out, k::refused, k::create, k::delete_failed, k::command,
             k::command_failed, k::outcome_unknown, k::transfer, k::cancelled, k::panic>(
        std::shared_ptr<const sbx_error>(told, sbx_error_free));
}

/// Calls a function of the C ABI, and throws its error.
template <class... Parameters, class... Arguments>
void call(sbx_status (*function)(Parameters...), Arguments... arguments) {
    sbx_error *told = nullptr;
    if (function(arguments..., &told) != SBX_OK)
        fail(told);
}

/// The function that frees a handle.
template <class T> constexpr void (*free_of)(T *) = nullptr;
template <> inline constexpr auto free_of<sbx_bytes> = sbx_bytes_free;
template <> inline constexpr auto free_of<sbx_child> = sbx_child_free;
template <> inline constexpr auto free_of<sbx_claim> = sbx_claim_free;
template <> inline constexpr auto free_of<sbx_client> = sbx_client_free;
template <> inline constexpr auto free_of<sbx_command> = sbx_command_free;
template <> inline constexpr auto free_of<sbx_config> = sbx_config_free;
template <> inline constexpr auto free_of<sbx_detached> = sbx_detached_free;
template <> inline constexpr auto free_of<sbx_forward> = sbx_forward_free;
template <> inline constexpr auto free_of<sbx_exit_status> = sbx_exit_status_free;
template <> inline constexpr auto free_of<sbx_dir_entries> = sbx_dir_entries_free;
template <> inline constexpr auto free_of<sbx_file> = sbx_file_free;
template <> inline constexpr auto free_of<sbx_info> = sbx_info_free;
template <> inline constexpr auto free_of<sbx_changes> = sbx_changes_free;
template <> inline constexpr auto free_of<sbx_filter> = sbx_filter_free;
template <> inline constexpr auto free_of<sbx_info_list> = sbx_info_list_free;
template <> inline constexpr auto free_of<sbx_metadata> = sbx_metadata_free;
template <> inline constexpr auto free_of<sbx_name_list> = sbx_name_list_free;
template <> inline constexpr auto free_of<sbx_output> = sbx_output_free;
template <> inline constexpr auto free_of<sbx_pool> = sbx_pool_free;
template <> inline constexpr auto free_of<sbx_pool_options> = sbx_pool_options_free;
template <> inline constexpr auto free_of<sbx_key_list> = sbx_key_list_free;
template <> inline constexpr auto free_of<sbx_report> = sbx_report_free;
template <> inline constexpr auto free_of<sbx_usage> = sbx_usage_free;
template <> inline constexpr auto free_of<sbx_pool_state> = sbx_pool_state_free;
template <> inline constexpr auto free_of<sbx_sandbox> = sbx_sandbox_free;
template <> inline constexpr auto free_of<sbx_spec> = sbx_spec_free;
template <> inline constexpr auto free_of<sbx_transfer> = sbx_transfer_free;
template <> inline constexpr auto free_of<sbx_transferred> = sbx_transferred_free;
template <> inline constexpr auto free_of<sbx_tree_report> = sbx_tree_report_free;

struct deleter {
    template <class T> void operator()(T *native) const noexcept { free_of<T>(native); }
};

/// A handle of the C ABI that is freed.
template <class T> using owned = std::unique_ptr<T, deleter>;

/// What a function of the C ABI gives out as its last result: the `T` of its `T **` before the error.
template <class... Parameters>
using given = std::remove_pointer_t<
    std::remove_pointer_t<std::tuple_element_t<sizeof...(Parameters) - 2, std::tuple<Parameters...>>>>;

/// Calls a function of the C ABI that gives a handle out as its last result.
template <class... Parameters, class... Arguments>
owned<given<Parameters...>> make(sbx_status (*function)(Parameters...), Arguments... arguments) {
    given<Parameters...> *native = nullptr;
    call(function, arguments..., &native);
    return owned<given<Parameters...>>(native);
}

/// Text for C, which can't have a NUL in it.
class c_text {
public:
    c_text(std::string_view text, const char *name) : text_(text) {
        if (text.find('\0') != std::string_view::npos)
            throw invalid_argument_error(std::string(name) + " has a NUL in it");
    }

    const char *get() const noexcept { return text_.c_str(); }

private:
    std::string text_;
};

inline double exact_seconds(seconds time, const char *name) {
    if (time < seconds::zero())
        throw invalid_argument_error(std::string(name) + " is negative");
    return time.count();
}

inline double optional_seconds(std::optional<seconds> time, const char *name) {
    return time ? exact_seconds(*time, name) : -1.0;
}

inline time_point at(std::int64_t unix_seconds) { return time_point(std::chrono::seconds(unix_seconds)); }

/// A container of bytes with what is at `data`.
template <class Bytes> Bytes copied(const std::uint8_t *data, std::size_t size) {
    using value = typename Bytes::value_type;
    static_assert(sizeof(value) == 1, "the elements of the container must be bytes");
    const auto *first = reinterpret_cast<const value *>(data);
    return Bytes(first, first + size);
}

template <class Bytes> Bytes taken(const owned<sbx_bytes> &bytes) {
    std::size_t size = 0;
    const std::uint8_t *data = sbx_bytes_data(bytes.get(), &size);
    return copied<Bytes>(data, size);
}

/// Whether a callback says by what it returns that the call goes on.
template <class Callback, class... Arguments> bool goes_on(Callback &callback, Arguments &&...arguments) {
    using answer = std::invoke_result_t<Callback &, Arguments...>;
    static_assert(std::is_void_v<answer> || std::is_same_v<answer, bool>, "a callback returns nothing, or a bool");
    if constexpr (std::is_void_v<answer>) {
        std::invoke(callback, std::forward<Arguments>(arguments)...);
        return true;
    } else {
        return std::invoke(callback, std::forward<Arguments>(arguments)...);
    }
}

/// Keeps what a callback throws on this side of the boundary to C.
class catcher {
public:
    template <class Body> bool goes_on(Body &&body) noexcept {
        if (thrown_)
            return false;
        try {
            return body();
        } catch (...) {
            thrown_ = std::current_exception();
            return false;
        }
    }

    /// Calls a function of the C ABI that gives a handle out as its last result, and throws what a callback threw, else
    /// its error.
    template <class... Parameters, class... Arguments>
    owned<given<Parameters...>> make(sbx_status (*function)(Parameters...), Arguments... arguments) {
        given<Parameters...> *native = nullptr;
        sbx_error *told = nullptr;
        const sbx_status status = function(arguments..., &native, &told);
        owned<given<Parameters...>> result(native);
        if (thrown_) {
            sbx_error_free(told);
            std::rethrow_exception(std::move(thrown_));
        }
        if (status != SBX_OK)
            fail(told);
        return result;
    }

private:
    std::exception_ptr thrown_;
};

/// Receives output for a callable.
template <class Receive> struct receiver : catcher {
    explicit receiver(Receive &callable) : receive(callable) {}

    static std::int32_t call_back(void *self, sbx_stream stream, const std::uint8_t *data, std::size_t size) noexcept {
        auto &own = *static_cast<receiver *>(self);
        return own.goes_on(
                   [&] { return detail::goes_on(own.receive, static_cast<output_stream>(stream), view(data, size)); })
                   ? 0
                   : 1;
    }

    Receive &receive;
};

} // namespace detail

/// What all handles have in common: each owns a handle of the C ABI, and frees it when it is destroyed. Can be moved,
/// not copied.
template <class Native> class handle {
public:
    /// Takes over what the C ABI gave out.
    explicit handle(Native *native) noexcept : native_(native) {}

    /// The same from one who owned it.
    explicit handle(detail::owned<Native> native) noexcept : native_(std::move(native)) {}

    /// True unless it was moved from.
    explicit operator bool() const noexcept { return native_ != nullptr; }

    /// What it owns and keeps owning, for calls to the C ABI. closed_error if it was moved from.
    Native *native_handle() const {
        if (!native_)
            throw closed_error("the handle was moved from");
        return native_.get();
    }

private:
    detail::owned<Native> native_;
};

} // namespace sandbox

#endif // SANDBOX_HANDLE_HPP
