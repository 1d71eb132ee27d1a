-- Asks for the paths in the file PATHS in turn and prints what it found as JSON; BODY and TYPE make it a POST.
-- The lines of AUTHORIZATION take turns too: with as many of them as share no divisor with the paths, all pairs come.
local paths, requests, turn = {}, {}, 0
for line in io.lines(os.getenv("PATHS")) do paths[#paths + 1] = line end
local seeded = 0

function setup(thread)
  thread:set("offset", seeded)
  seeded = seeded + 1
end

-- As a client writes it, always in one order: that of a Lua table changes from thread to thread.
local function written(path, authorization)
  local lines = { os.getenv("METHOD") .. " " .. path .. " HTTP/1.1", "Host: " .. wrk.headers["Host"] }
  local function header(name, value)
    if value then lines[#lines + 1] = name .. ": " .. value end
  end
  local body = os.getenv("BODY")
  header("Accept", os.getenv("ACCEPT"))
  header("Authorization", authorization)
  header("Content-Type", os.getenv("TYPE"))
  header("Content-Length", body and tostring(#body))
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

function init(arguments)
  local credentials = {}
  for line in string.gmatch(os.getenv("AUTHORIZATION") or "", "[^\n]+") do credentials[#credentials + 1] = line end
  for number = 1, #paths * math.max(1, #credentials) do
    requests[number] = written(paths[(number - 1) % #paths + 1], credentials[(number - 1) % #credentials + 1])
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
