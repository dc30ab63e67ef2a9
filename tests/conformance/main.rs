//! One conformance suite over every transport, in one process and across two.
//!
//! A case is an `async fn` over a [`fixture::Fixture`], listed once, at the bottom of this file. It is run in every
//! column: a transport, and where and on what the server runs. What a column cannot have stands in [`table`], with the
//! reason, and in `docs/conformance.md`, which a test keeps equal to it.

mod cases {
    pub(crate) mod beside;
    pub(crate) mod blocking;
    pub(crate) mod callbacks;
    pub(crate) mod calls;
    pub(crate) mod cancel;
    pub(crate) mod deadlines;
    pub(crate) mod drain;
    pub(crate) mod errors;
    pub(crate) mod handshake;
    pub(crate) mod isolation;
    pub(crate) mod kills;
    pub(crate) mod layers;
    pub(crate) mod lifetime;
    pub(crate) mod limits;
    pub(crate) mod locks;
    pub(crate) mod objects;
    pub(crate) mod payloads;
    pub(crate) mod pipelining;
    pub(crate) mod sessions;
    pub(crate) mod streams;
}
mod child;
mod errand;
mod exchange;
mod fixture;
mod flow;
mod harness;
mod ledger;
mod nests;
mod own_transport;
mod pipes;
mod raw;
mod service;
mod table;
mod vault;

/// Not a test: what the suite's second process runs. It does nothing where nobody asked for a second process.
#[test]
fn the_other_process() {
    child::main();
}

/// From the list of cases: a macro that writes their tests for one column, and their names for the table.
macro_rules! cases {
    ($d:tt $($group:ident { $($case:ident,)* })*) => {
        macro_rules! tests_of_column {
            ($d carrier:ident, $d placement:ident) => {
                $($(
                    #[test]
                    fn $case() {
                        use crate::{cases, fixture::{Carrier, Placement}, harness};
                        let (carrier, placement) = (Carrier::$d carrier, Placement::$d placement);
                        harness::run(stringify!($case), cases::$group::$case, carrier, placement);
                    }
                )*)*
            };
        }
        /// Every case, with the group it belongs to.
        const CASES: &[(&str, &str)] = &[$($((stringify!($group), stringify!($case)),)*)*];
    };
}

/// One module a column.
macro_rules! columns {
    ($($module:ident { $($column:ident: $carrier:ident, $placement:ident;)* })*) => {
        $(mod $module {
            $(mod $column {
                tests_of_column!($carrier, $placement);
            })*
        })*
        /// Every column.
        const COLUMNS: &[(&str, fixture::Carrier, fixture::Placement)] = &[$($((
            concat!(stringify!($module), "::", stringify!($column)),
            fixture::Carrier::$carrier,
            fixture::Placement::$placement,
        ),)*)*];
    };
}

cases! { $
    payloads {
        echo_of_nothing,
        echo_of_a_small_one,
        echo_of_one_mebibyte,
        echo_at_the_limit_and_one_over,
        a_reply_at_the_limit_and_one_over,
        echo_of_sixty_four_mebibytes,
    }
    calls {
        a_thousand_calls_complete_out_of_order,
        a_sent_call_is_awaited_later,
        a_oneway_call_arrives_and_frees_its_slot,
        several_services_share_a_connection,
        several_listeners_share_a_server,
        a_call_polled_once_holds_up_nobody,
        many_clients_at_once,
    }
    errors {
        the_methods_own_error_is_told,
        a_panic_is_told_and_ends_nothing_else,
        an_argument_that_panics_in_its_drop_is_a_panic,
        arguments_that_cannot_be_encoded_are_not_sent,
        arguments_that_cannot_be_decoded_are_not_executed,
        a_reply_that_cannot_be_encoded_was_executed,
        a_reply_that_cannot_be_decoded_was_executed,
        an_unknown_service_or_method_is_named,
        a_request_over_the_peers_limit_is_not_sent,
        a_call_after_the_close_is_not_executed,
    }
    cancel {
        a_call_that_is_never_polled_does_nothing,
        a_waiting_call_is_taken_back,
        a_half_sent_call_is_cut_off,
        a_running_handler_is_dropped,
        a_spawned_and_a_blocking_handler_can_ask,
        a_handler_may_refuse_to_be_cancelled,
        an_abandoned_reply_is_let_go,
        an_abandoned_call_keeps_its_place_to_its_last_byte,
        five_hundred_cancels_at_once_are_no_offence,
    }
    deadlines {
        a_call_ends_at_its_timeout,
        a_call_ends_at_its_deadline,
        a_call_without_time_is_not_made,
        a_method_has_its_own_timeout,
        the_default_and_the_maximum_apply,
        the_server_knows_the_time_left,
        a_waiting_call_ends_at_its_deadline_unexecuted,
        a_call_without_memory_ends_at_its_deadline_unexecuted,
        an_overdue_no_cancel_handler_is_not_waited_for,
    }
    callbacks {
        a_handler_calls_its_caller,
        a_nested_call_inherits_the_time_left,
        a_nested_call_at_the_limit_fails_at_once,
        a_blocking_handler_may_wait,
        an_async_handler_may_not_wait,
        the_peer_is_identified,
    }
    beside {
        metadata_travels_both_ways,
        metadata_comes_to_a_thread_that_waits,
        metadata_comes_with_the_methods_own_error,
        metadata_comes_before_the_items_of_a_stream,
        metadata_has_a_limit_on_either_side,
        malformed_metadata_fails_its_call_alone,
        a_trace_goes_with_the_calls_of_a_handler,
        a_call_id_is_the_callers_or_no_other_calls,
        urgency_is_told_and_only_a_low_one_inherited,
        an_urgent_call_passes_those_that_wait,
        a_secret_is_one_on_the_other_side_as_well,
    }
    streams {
        items_come_in_order_and_whole,
        a_stream_may_borrow_its_arguments_and_fail_before_it_begins,
        items_of_every_length,
        a_stream_is_an_argument,
        streams_go_both_ways_at_once,
        a_call_has_several_streams,
        many_streams_at_once,
        a_reader_that_stops_is_heard,
        a_handler_that_stops_is_heard,
        streams_are_cancelled_with_their_call,
        a_source_that_waits_hears_that_nobody_wants_it,
        a_slow_reader_slows_its_sender_and_nobody_else,
        streams_outlive_the_deadline_of_their_call,
        a_reader_that_takes_nothing_is_given_up,
        what_a_slow_reader_misses_is_what_the_method_says,
        whoever_keeps_up_misses_nothing,
        an_end_that_is_none_is_told,
        a_stream_keeps_its_connection_and_hears_of_its_end,
        a_drain_tells_streams_and_waits_for_them,
        streams_count_in_flight,
        a_small_window_only_slows,
        a_full_stream_leaves_others_their_turn,
        a_plain_thread_may_take_items,
    }
    objects {
        a_client_is_an_argument,
        clients_are_parts_of_arguments,
        clients_are_results,
        an_object_lives_as_long_as_its_last_client,
        an_object_that_comes_back_is_the_very_one,
        either_end_hears_of_the_others_end,
        an_end_is_not_taken_for_a_revocation,
        a_revoked_object_is_called_no_more,
        objects_of_a_call_that_fails_are_let_go_of,
        what_cannot_be_handed_over_is_not_sent,
        objects_at_the_limit_and_one_over,
        many_objects_come_and_go,
        a_drain_of_one_side_leaves_the_other_working,
        a_plain_thread_may_call_an_object,
        a_service_is_handed_over_twice,
    }
    pipelining {
        calls_on_a_result_leave_right_behind_its_call,
        results_of_results_are_called,
        a_call_that_gives_no_result_is_told_of,
        what_is_dropped_ends_what_nobody_wants,
        a_oneway_call_on_a_result_is_wanted,
        deadlines_run_while_calls_wait_for_a_result,
        a_row_of_results_waits_at_the_limit,
        long_calls_are_made_on_results_and_give_them,
        a_result_that_is_not_there_yet_is_not_handed_over,
        many_results_come_and_go,
        a_drain_waits_for_calls_on_results,
        calls_on_results_have_not_run_when_the_grace_ends,
        the_end_of_the_connection_ends_all_of_it,
        a_plain_thread_may_call_a_result,
    }
    isolation {
        a_handler_that_never_returns_holds_up_nobody,
        a_handler_that_computes_holds_up_nobody,
        handlers_that_block_hold_up_nobody,
        a_large_upload_lets_small_calls_pass,
        a_large_upload_that_is_not_polled_stands_still_alone,
        a_client_that_reads_nothing_harms_nobody_else,
        a_peer_that_breaks_the_protocol_ends_its_own_connection_only,
    }
    limits {
        calls_in_flight_at_the_limit_and_one_over,
        waiting_calls_at_the_limit_and_one_over,
        calls_of_a_server_at_the_limit_and_one_over,
        connections_at_the_limit_and_one_over,
        big_requests_wait_for_the_receivers_memory,
        big_requests_wait_for_the_senders_memory,
        big_replies_wait_for_memory,
        the_servers_memory_has_a_limit,
        decoding_has_a_memory_limit,
    }
    handshake {
        garbage_is_refused_by_the_server,
        garbage_is_refused_by_the_client,
        another_version_is_named_by_the_server,
        another_version_is_named_by_the_client,
        a_silent_client_is_dropped,
        a_silent_server_is_given_up,
        a_peer_that_leaves_during_the_handshake_is_noticed,
        nobody_there_is_said_so,
        a_codec_is_agreed_upon,
        no_common_codec_is_said_so,
    }
    lifetime {
        a_borrowed_client_does_not_keep_the_connection,
        the_last_owner_closes,
        closed_tells_why,
        a_connection_is_closed_whoever_holds_it,
        calls_in_flight_end_when_the_connection_is_closed,
        a_dropped_server_ends_every_call,
        an_ended_connection_has_no_accounts,
    }
    layers {
        a_layer_refuses_before_arguments_are_decoded,
        what_a_layer_refuses_afterwards_may_have_run,
        a_layer_goes_with_its_call,
        a_call_layer_sees_every_call_and_its_end,
        a_call_layer_refuses_and_hurries,
        a_call_layer_adds_metadata,
    }
    sessions {
        each_connection_keeps_values_of_its_own,
        a_kept_value_goes_with_its_connection,
    }
    drain {
        accepted_calls_finish_and_new_ones_are_refused,
        waiting_calls_are_refused_by_a_drain,
        a_stuck_handler_is_cut_when_the_grace_ends,
        a_drain_at_rest_is_quick,
    }
    blocking {
        a_plain_thread_may_wait,
        a_thread_of_a_runtime_may_not_wait,
        a_thread_that_may_block_may_wait,
        a_connection_without_a_runtime,
        threads_wait_beside_each_other_and_beside_tasks,
        a_thread_that_waits_takes_large_replies,
        a_deadline_passes_while_a_thread_reads,
        what_comes_between_two_waits_is_read,
        a_thread_that_waits_hears_of_the_close,
    }
    locks {
        a_serialize_that_calls,
        a_waker_that_calls,
        drops_that_call,
    }
    kills {
        a_server_killed_mid_call,
        a_server_killed_with_calls_in_every_state,
        a_client_killed_mid_handshake,
        a_client_killed_mid_frame,
        calls_and_kills_keep_the_ledger,
        a_server_killed_while_threads_wait,
    }
}

columns! {
    mem {
        one_process: Mem, OneProcess;
        one_thread: Mem, OneThread;
    }
    unix {
        one_process: Unix, OneProcess;
        one_thread: Unix, OneThread;
        two_processes: Unix, TwoProcesses;
        two_processes_one_thread: Unix, TwoProcessesOneThread;
    }
    shm {
        one_process: Shm, OneProcess;
        one_thread: Shm, OneThread;
        two_processes: Shm, TwoProcesses;
        two_processes_one_thread: Shm, TwoProcessesOneThread;
    }
    shm_in_place {
        one_process: InPlace, OneProcess;
        two_processes: InPlace, TwoProcesses;
    }
    tcp {
        one_process: Tcp, OneProcess;
        two_processes: Tcp, TwoProcesses;
    }
    pipe {
        one_process: Pipe, OneProcess;
        one_thread: Pipe, OneThread;
        two_processes: Pipe, TwoProcesses;
        two_processes_one_thread: Pipe, TwoProcessesOneThread;
    }
    over {
        one_thread: Over, OneThread;
        two_processes: Over, TwoProcesses;
    }
    own {
        one_process: Own, OneProcess;
        one_thread: Own, OneThread;
    }
}
