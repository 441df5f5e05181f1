# What the BEAM does for the work that packetflow.otp does, a row at a time.
#
#   elixir --erl "+S 1:1 +P 2000000" _beam.exs              answers each line "ROW COUNT" with one line of JSON
#   elixir --erl "+S 1:1 +P 2000000" _beam.exs ROW COUNT    does that row once
#
# One scheduler is fair to a one-thread Python process. Each row runs in a process of its own, warms up with a tenth of
# its work (or a thousand children), and is timed for COUNT operations. All times are in seconds.

Logger.configure(level: :none)

defmodule Echo do
  use GenServer
  def start_link(arg), do: GenServer.start_link(__MODULE__, arg)
  def init(arg), do: {:ok, arg}
  def handle_call(m, _from, s), do: {:reply, m, s}
  def handle_cast(_m, s), do: {:noreply, s}
end

defmodule Named do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)
  def init(s), do: {:ok, s}
  def handle_call(:ping, _f, s), do: {:reply, :pong, s}
  def handle_cast(:crash, _s), do: raise("boom")
end

defmodule Phoenix do
  # Tells the bench each time it comes to life, so that many restarts are counted without polling.
  use GenServer
  def start_link(to), do: GenServer.start_link(__MODULE__, to)
  def init(to), do: {send(to, {:up, self()}) && :ok, to}
end

defmodule Simple do
  # OTP's own dynamic supervisor.
  def init(_), do: {:ok, {%{strategy: :simple_one_for_one}, [%{id: Echo, start: {Echo, :start_link, []}}]}}
end

defmodule Next do
  # One of a chain: asks the next, which asks the next.
  use GenServer
  def init(next), do: {:ok, next}
  def handle_call(n, _from, nil), do: {:reply, n, nil}
  def handle_call(n, _from, next), do: {:reply, GenServer.call(next, n + 1, 60_000), next}
end

defmodule Door do
  # A state machine with state functions.
  @behaviour :gen_statem
  def callback_mode, do: :state_functions
  def init(_), do: {:ok, :closed, 0}
  def closed({:call, from}, :turn, n), do: {:next_state, :open, n + 1, [{:reply, from, n}]}
  def closed(:cast, :turn, n), do: {:next_state, :open, n + 1}
  def open({:call, from}, :turn, n), do: {:next_state, :closed, n + 1, [{:reply, from, n}]}
  def open(:cast, :turn, n), do: {:next_state, :closed, n + 1}
end

defmodule Rows do
  @forever 1_000_000_000
  @dynamic [strategy: :one_for_one, max_restarts: @forever, max_seconds: 1]

  def now, do: :erlang.monotonic_time(:nanosecond)
  def secs(f), do: (t = now(); f.(); (now() - t) / 1.0e9)
  def many(0, _, acc), do: acc
  def many(n, f, acc), do: (({:ok, p} = f.()); many(n - 1, f, [p | acc]))

  # Of a rate: the wall's clock, or the processor's where BENCH_CLOCK=cpu asks for it.
  def clock do
    if System.get_env("BENCH_CLOCK") == "cpu", do: elem(:erlang.statistics(:runtime), 0) * 1_000_000, else: now()
  end

  def timed(f), do: (t = clock(); f.(); (clock() - t) / 1.0e9)
  def warm(n, f), do: (f.(max(1, div(n, 10))); %{seconds: timed(fn -> f.(n) end)})

  # ---- messages ---------------------------------------------------------------------------------------------------
  defp calls(0, _), do: :ok
  defp calls(n, p), do: (GenServer.call(p, 1); calls(n - 1, p))

  defp casts(0, _), do: :ok
  defp casts(n, p), do: (GenServer.cast(p, 1); casts(n - 1, p))

  defp together(functions) do
    functions
    |> Enum.map(&spawn_monitor/1)
    |> Enum.each(fn {_, ref} -> receive do {:DOWN, ^ref, _, _, _} -> :ok end end)
  end

  def row("call", n) do
    {:ok, p} = Echo.start_link(nil)
    warm(n, &calls(&1, p))
  end

  def row("call_100_callers", n) do
    {:ok, p} = Echo.start_link(nil)
    warm(n, fn k -> together(for _ <- 1..100, do: fn -> calls(div(k, 100), p) end) end)
  end

  def row("call_100_pairs", n) do
    servers = many(100, fn -> Echo.start_link(nil) end, [])
    warm(n, fn k -> together(for s <- servers, do: fn -> calls(div(k, 100), s) end) end)
  end

  def row("cast", n) do
    {:ok, p} = Echo.start_link(nil)
    warm(n, fn k -> casts(k, p); GenServer.call(p, 1, :infinity) end)
  end

  def row("chain", n) do
    first = Enum.reduce(1..n, nil, fn _, next -> ({:ok, p} = GenServer.start_link(Next, next); p) end)
    go = fn -> ^n = GenServer.call(first, 1, 60_000) end
    go.()
    %{seconds: secs(go)}
  end

  def row("state_machine_call", n) do
    {:ok, p} = :gen_statem.start_link(Door, nil, [])
    warm(n, &turns(&1, p))
  end

  def row("state_machine_cast", n) do
    {:ok, p} = :gen_statem.start_link(Door, nil, [])
    warm(n, fn k -> turn_casts(k, p); :gen_statem.call(p, :turn, :infinity) end)
  end

  # ---- tasks and timers -------------------------------------------------------------------------------------------
  def row("task", n), do: warm(n, &tasks/1)
  def row("timer", n), do: warm(n, &timers(&1, self()))

  # ---- many children: seconds, and the memory they took (what the VM books, and what the machine sees) --------------
  def row("children_dynamic", n) do
    {:ok, first} = DynamicSupervisor.start_link(@dynamic)
    many(1000, fn -> DynamicSupervisor.start_child(first, {Echo, nil}) end, [])
    {:ok, s} = DynamicSupervisor.start_link(@dynamic)
    children(n, fn -> many(n, fn -> DynamicSupervisor.start_child(s, {Echo, nil}) end, []) end)
  end

  def row("stop_dynamic", n) do
    {:ok, s} = DynamicSupervisor.start_link(@dynamic)
    many(n, fn -> DynamicSupervisor.start_child(s, {Echo, nil}) end, [])
    %{stop: secs(fn -> DynamicSupervisor.stop(s, :normal, :infinity) end)}
  end

  def row("children_simple", n) do
    {:ok, first} = :supervisor.start_link(Simple, [])
    many(1000, fn -> :supervisor.start_child(first, [nil]) end, [])
    GenServer.stop(first)
    {:ok, s} = :supervisor.start_link(Simple, [])
    begun = children(n, fn -> many(n, fn -> :supervisor.start_child(s, [nil]) end, []) end)
    Map.put(begun, :stop, secs(fn -> GenServer.stop(s, :normal, :infinity) end))
  end

  def row("children_supervisor", n) do
    specs = fn k -> for i <- 1..k, do: %{id: i, start: {Echo, :start_link, [nil]}} end
    {:ok, first} = Supervisor.start_link(specs.(1000), strategy: :one_for_one)
    Supervisor.stop(first)
    given = specs.(n)
    {begun, s} = with_supervisor(given, n)
    Map.put(begun, :stop, secs(fn -> Supervisor.stop(s, :normal, :infinity) end))
  end

  def row("children_alone", n) do
    many(1000, fn -> GenServer.start(Echo, nil) end, [])
    children(n, fn -> many(n, fn -> GenServer.start(Echo, nil) end, []) end)
  end

  # Seconds a call takes with n actors alive: to ten of them in turn, and to any of them (drawn beforehand).
  def row("growth", n) do
    {:ok, s} = DynamicSupervisor.start_link(@dynamic)
    servers = List.to_tuple(many(n, fn -> DynamicSupervisor.start_child(s, {Echo, nil}) end, []))
    ten = for i <- 0..9, do: elem(servers, div(i * n, 10))
    draw = for _ <- 1..20_000, do: elem(servers, :rand.uniform(n) - 1)
    %{
      few: timed(fn -> for _ <- 1..7, _ <- 1..2000, p <- ten, do: GenServer.call(p, 1) end) / 140_000,
      any: timed(fn -> for _ <- 1..7, p <- draw, do: GenServer.call(p, 1) end) / 140_000
    }
  end

  # ---- restarts ---------------------------------------------------------------------------------------------------
  # A supervisor keeps every restart inside the window in a list that it walks at each restart, so a fresh supervisor per
  # hundred crashes keeps that walk out of the figure.
  def row("restart", n) do
    crashes(100)
    latencies = Enum.sort(Enum.flat_map(1..div(n, 100), fn _ -> crashes(100) end))
    at = fn q -> Enum.at(latencies, min(length(latencies) - 1, trunc(length(latencies) * q))) end
    %{median: at.(0.5), p99: at.(0.99)}
  end

  def row("burst", n) do
    me = self()
    {:ok, s} = DynamicSupervisor.start_link(@dynamic)
    for _ <- 1..n, do: {:ok, _} = DynamicSupervisor.start_child(s, {Phoenix, me})
    burst(n)
    %{seconds: burst(n)}
  end

  # ---- registry ---------------------------------------------------------------------------------------------------
  def row("registry_lookup", n) do
    {:ok, _} = Registry.start_link(keys: :unique, name: R)
    for i <- 1..100_000, do: Registry.register(R, i, nil)
    keys = List.to_tuple(for _ <- 1..10_000, do: :rand.uniform(100_000))
    warm(n, fn k -> lookups(k, keys) end)
  end

  def row("registry_register", n) do
    {:ok, _} = Registry.start_link(keys: :unique, name: R)
    t = clock()
    for i <- 1..n, do: {:ok, _} = Registry.register(R, i, nil)
    %{seconds: (clock() - t) / 1.0e9}
  end

  def row("registry_via", n) do
    {:ok, _} = Registry.start_link(keys: :unique, name: R)
    {:ok, _} = GenServer.start_link(Echo, nil, name: {:via, Registry, {R, "echo"}})
    warm(n, &calls(&1, {:via, Registry, {R, "echo"}}))
  end

  # n deliveries, a hundred at a time; all are taken out of the mailboxes before the clock stops.
  def row("registry_dispatch", n) do
    {:ok, _} = Registry.start_link(keys: :duplicate, name: R)
    me = self()
    for _ <- 1..100, do: spawn_link(fn -> ({:ok, _} = Registry.register(R, "topic", nil)); send(me, :in); drain() end)
    for _ <- 1..100, do: (receive do :in -> :ok end)
    warm(n, fn k ->
      dispatches(div(k, 100))
      for {q, _} <- Registry.lookup(R, "topic"), do: send(q, {:ask, me})
      for _ <- 1..100, do: (receive do :drained -> :ok end)
    end)
  end

  defp drain do
    receive do
      {:ask, from} -> send(from, :drained)
      _ -> :ok
    end
    drain()
  end

  defp dispatches(0), do: :ok
  defp dispatches(n) do
    Registry.dispatch(R, "topic", fn entries -> for {q, _} <- entries, do: send(q, :news) end)
    dispatches(n - 1)
  end

  defp lookups(0, _), do: :ok
  defp lookups(n, keys), do: ([_] = Registry.lookup(R, elem(keys, rem(n, 10_000))); lookups(n - 1, keys))

  defp turns(0, _), do: :ok
  defp turns(n, p), do: (:gen_statem.call(p, :turn, 5000); turns(n - 1, p))

  defp turn_casts(0, _), do: :ok
  defp turn_casts(n, p), do: (:gen_statem.cast(p, :turn); turn_casts(n - 1, p))

  defp tasks(0), do: :ok
  defp tasks(n), do: (1 = Task.await(Task.async(fn -> 1 end)); tasks(n - 1))

  defp timers(0, _), do: :ok
  defp timers(n, me), do: (Process.cancel_timer(Process.send_after(me, :x, 60_000)); timers(n - 1, me))

  defp with_supervisor(specs, n) do
    me = self()
    begun = children(n, fn -> ({:ok, s} = Supervisor.start_link(specs, strategy: :one_for_one)); send(me, {:s, s}) end)
    {begun, (receive do {:s, s} -> s end)}
  end

  defp children(n, start) do
    for _ <- 1..3, do: :erlang.garbage_collect()
    {vm, os} = {:erlang.memory(:total), rss()}
    seconds = secs(start)
    {vm2, os2} = {:erlang.memory(:total), rss()}
    %{start: seconds, bytes: (vm2 - vm) / n, rss: (os2 - os) / n}
  end

  defp rss do
    [_, pages | _] = String.split(File.read!("/proc/self/statm"))
    String.to_integer(pages) * 4096
  end

  defp crashes(n) do
    {:ok, s} = Supervisor.start_link([Named], strategy: :one_for_one, max_restarts: @forever, max_seconds: 1)
    latencies = for _ <- 1..n, do: crash_to_answer()
    Supervisor.stop(s)
    latencies
  end

  # One crash of a named, supervised server until a call to its name is answered again.
  defp crash_to_answer do
    old = Process.whereis(Named)
    t = now()
    GenServer.cast(Named, :crash)
    await_new(old)
    (now() - t) / 1.0e9
  end

  defp await_new(old) do
    case Process.whereis(Named) do
      x when x == nil or x == old -> :erlang.yield(); await_new(old)
      _ -> :pong = GenServer.call(Named, :ping)
    end
  end

  defp burst(n) do
    up = collect(n, [])
    took = secs(fn -> Enum.each(up, &Process.exit(&1, :boom)); for(p <- collect(n, []), do: send(self(), {:up, p})) end)
    took
  end

  defp collect(0, acc), do: acc
  defp collect(n, acc), do: (receive do {:up, p} -> collect(n - 1, [p | acc]) end)

  # ---- asking -----------------------------------------------------------------------------------------------------
  # Does a row, prints its figures, and waits until all that it started is gone.
  def answer(name, n) do
    {me, before} = {self(), length(Process.list())}
    {pid, ref} = spawn_monitor(fn -> send(me, {:row, row(name, n)}); exit(:shutdown) end)
    figures = receive do
      {:row, figures} -> figures
      {:DOWN, ^ref, _, ^pid, reason} -> raise "row #{name} ended with #{inspect(reason)}"
    end
    number = &:erlang.float_to_binary(&1 / 1, [:compact, decimals: 12])
    IO.puts("{" <> Enum.map_join(figures, ", ", fn {k, v} -> ~s("#{k}": #{number.(v)}) end) <> "}")
    fn -> await_quiet(before) end
  end

  defp await_quiet(before) do
    if length(Process.list()) > before, do: (Process.sleep(1); await_quiet(before))
  end

  def listen do
    case IO.gets("") do
      :eof -> :ok
      line ->
        [name, n] = String.split(line)
        answer(name, String.to_integer(n)).()
        listen()
    end
  end
end

case System.argv() do
  [] -> Rows.listen()
  [name, n] -> (Rows.answer(name, String.to_integer(n)); System.halt(0))
end
