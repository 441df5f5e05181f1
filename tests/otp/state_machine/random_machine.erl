%% Runs the random machines of model.py by OTP's own gen_statem, so that the model can be compared with it.
%% main(File): File has a program a line; prints [Log, Answers, State, Data] for each.
-module(random_machine).
-behaviour(gen_statem).
-export([main/1, init/1, callback_mode/0, handle_event/4]).

-define(LIMIT, 12).
-define(LONG, 100000). % no timer fires here

main(File) ->
    {ok, Programs} = file:consult(File),
    lists:foreach(fun(Program) -> io:format("~w~n", [run(Program)]) end, Programs).

run({Responses, Enters, Steps}) ->
    Left = counters:new(1, []),
    counters:put(Left, 1, ?LIMIT),
    {ok, Machine} = gen_statem:start(?MODULE, {Responses, Enters, Left}, []),
    {_, Requests} = lists:foldl(
        fun({Kind, Content}, {Client, Sent}) ->
            settle(Machine),
            counters:put(Left, 1, ?LIMIT),
            case Kind of
                call -> {Client + 1, [{Client, gen_statem:send_request(Machine, Content)} | Sent]};
                cast -> gen_statem:cast(Machine, Content), {Client + 1, Sent};
                info -> Machine ! Content, {Client + 1, Sent}
            end
        end, {0, []}, Steps),
    {State, Data} = settle(Machine),
    Log = gen_statem:call(Machine, log),
    Answers = lists:flatmap(
        fun({Client, Request}) ->
            case gen_statem:wait_response(Request, 0) of
                {reply, Value} -> [[Client, Value]];
                timeout -> []
            end
        end, Requests),
    exit(Machine, kill),
    [lists:reverse(Log), Answers, State, Data].

settle(Machine) -> sys:get_state(Machine).

init({Responses, Enters, Left}) ->
    put(responses, Responses),
    put(enters, Enters),
    put(left, Left),
    put(log, []),
    put(unanswered, []),
    put(seen, []),
    {ok, 0, 0}.

callback_mode() ->
    case get(enters) of
        [] -> handle_event_function;
        _ -> [handle_event_function, state_enter]
    end.

handle_event({call, From}, log, _State, _Data) ->
    {keep_state_and_data, [{reply, From, get(log)}]};
handle_event(enter, Old, State, Data) ->
    note([8, Old, State, Data]),
    answer(choose(get(enters), 3 * State + Old), Data);
handle_event(Kind, Content, State, Data) ->
    case Kind of
        {call, From} ->
            case lists:member(From, get(seen)) of
                true -> ok;
                false ->
                    put(seen, [From | get(seen)]),
                    put(unanswered, get(unanswered) ++ [From])
            end;
        _ -> ok
    end,
    note([number(Kind), Content, State, Data]),
    answer(choose(get(responses), 7 * State + 3 * number(Kind) + Content), Data).

note(Entry) ->
    put(log, [Entry | get(log)]),
    counters:sub(get(left), 1, 1).

choose(From, Number) ->
    case counters:get(get(left), 1) < 0 of
        true -> {keep_state_and_data, []};
        false -> lists:nth(Number rem length(From) + 1, From)
    end.

answer({How, Actions}, Data) ->
    New = case How of
        keep_state_and_data -> Data;
        repeat_state_and_data -> Data;
        _ -> Data + 1
    end,
    Done = lists:flatmap(fun(Action) -> action(Action, New) end, Actions),
    case How of
        keep_state -> {keep_state, New, Done};
        keep_state_and_data -> {keep_state_and_data, Done};
        repeat_state -> {repeat_state, New, Done};
        repeat_state_and_data -> {repeat_state_and_data, Done};
        {next_state, State} -> {next_state, State, New, Done}
    end.

action({reply}, Data) ->
    case get(unanswered) of
        [] -> [];
        [From | Rest] -> put(unanswered, Rest), [{reply, From, Data}]
    end;
action({timeout, Kind, cancel, _Content}, _Data) -> [{Kind, cancel}];
action({timeout, Kind, update, Content}, _Data) -> [{Kind, update, Content}];
action({timeout, Kind, Time, Content}, _Data) -> [{Kind, Time * ?LONG, Content}];
action(Action, _Data) -> [Action].

number({call, _}) -> 0;
number(cast) -> 1;
number(info) -> 2;
number(internal) -> 3;
number(timeout) -> 4;
number(state_timeout) -> 5;
number({timeout, 0}) -> 6;
number({timeout, 1}) -> 7.
