/**
 * \file
 *
 * sandbox for C++17 and newer: disposable machines on your own Kubernetes.
 *
 * ```cpp
 * auto client = sandbox::client::from_env();
 * sandbox::scoped_box box(client.create());
 * std::cout << box->execute("uname -a").check().out();
 * ```
 *
 * This is all of the C ABI, sandbox.h, with C++'s means: what is `sbx_OBJECT_VERB()` there is `sandbox::OBJECT::VERB()`
 * here, and does the same; `sbx_sandbox` is sandbox::box. What the functions mean in full is said there. What holds for
 * all of this header:
 *
 * Errors are exceptions, all of them sandbox::error, with a class for each kind. A constructor, a function or an
 * assignment that is not `noexcept` may throw std::bad_alloc too. Where something may be missing, a std::optional says
 * so.
 *
 * Handles (sandbox::client, box, command, …) own what they are named after. They can be moved, not copied. What is
 * asked of one that was moved from is a sandbox::closed_error; it may be destroyed, and assigned to. Handles keep alive
 * what they need of each other, so any order of destruction is right. What is asked and answered (sandbox::info,
 * metadata, exit_status, …) are values, and can be copied.
 *
 * Text and paths in the sandbox come in as std::string_view. A NUL in one, which C could not see, is a
 * sandbox::invalid_argument_error. Arguments, environment variables and paths are bytes, other text is UTF-8. Contents
 * of files and streams come in as sandbox::bytes_view, for which any contiguous container of bytes does. Paths of this
 * machine are std::filesystem::path.
 *
 * Durations come in as any std::chrono::duration. Where there may be no limit, std::nullopt says that; a negative
 * duration is an invalid_argument_error, so that a time that has run out by accident is no time without end.
 *
 * Callbacks are any callables. They run on the calling thread during the call only. They return nothing, or a bool, of
 * which false stops the call with a sandbox::cancelled_error. An exception that leaves one stops the call too, and
 * comes out of it. The thread must not end there: neither by pthread_cancel() nor by pthread_exit().
 *
 * Threads. Functions that are const may be called on the same object from several threads at once; others need the
 * object to themselves. The streams of a sandbox::child are for one thread each. In a child of fork(), handles of the
 * parent throw sandbox::forked_error.
 */

#ifndef SANDBOX_HPP
#define SANDBOX_HPP

#if !defined(__cplusplus) || __cplusplus < 201703L
#error "sandbox.hpp needs C++17 or newer"
#endif

#include "sandbox/box.hpp"
#include "sandbox/client.hpp"
#include "sandbox/command.hpp"
#include "sandbox/doctor.hpp"
#include "sandbox/error.hpp"
#include "sandbox/file.hpp"
#include "sandbox/forward.hpp"
#include "sandbox/handle.hpp"
#include "sandbox/logging.hpp"
#include "sandbox/pool.hpp"
#include "sandbox/thread.hpp"
#include "sandbox/types.hpp"
#include "sandbox/values.hpp"

#endif // SANDBOX_HPP
