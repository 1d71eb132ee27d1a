-- Asks for the paths in the file PATHS in turn and prints what it found as JSON; BODY and TYPE make it a POST.
local paths, requests, turn = {}, {}, 0
for line in io.lines(os.getenv("PATHS")) do paths[#paths + 1] = line end
local seeded = 0

function setup(thread)
  thread:set("offset", seeded)
  seeded = seeded + 1
end

function init(arguments)
  local headers = { ["Authorization"] = os.getenv("AUTHORIZATION"), ["Content-Type"] = os.getenv("TYPE"),
    ["Accept"] = os.getenv("ACCEPT") }
  for number, path in ipairs(paths) do
    requests[number] = wrk.format(os.getenv("METHOD"), path, headers, os.getenv("BODY"))
  end
  -- Threads begin at different places.
  turn = math.floor(offset * #requests / 2)
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p99": %d, "max": %d, "errors": %d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
