-- Take places for a batch of mails: all limits of one mail or none, in the order of the requests.
-- The reasoning stands in mailglass/limits/__init__.py. mailglass.take_limits in PostgreSQL computes the same; counts
-- of a day are kept there alone.
--
-- KEYS: the limits, then the lessons of those that belong to an account.
-- ARGV: the batch as JSON (mailglass/limits/batch.py), 1 where it is urgent, the horizon in us, a seed in [0, 1), now
-- in us or '' for the server's clock. Answers three lists as text: how many mails of each run were granted, and for each mail that was
-- not its delay in us and the position of the limit it waits for.

local CLOCK_STEP = 1000000   -- the clock may go back so far; further back it was set, and levels follow it
local GOLDEN = 0.6180339887498949
local TOLD_TOLERANCE = 2000000
local KEPT = 60000           -- ms that a drained limit is kept on

local call, floor, ceil, min, max = redis.call, math.floor, math.ceil, math.min, math.max
local batch = cjson.decode(ARGV[1])
local urgent, horizon, seed, now = ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local intervals, tolerances = batch.intervals, batch.tolerances
local count = #intervals
-- promises: up to where places are promised to mails of this batch's kind; others: to those of the other kind
local stamps, levels, promises, others, touched = {}, {}, {}, {}, {}
-- ceilings: the highest level at which one more mail fits, below 0 during a pause
local pauses, ceilings = {}, {}

local function load(i, state)
  local stamp, level, promise, hasty = now, 0, 0, 0
  if state then
    stamp, level, promise, hasty = struct.unpack('<dddd', state)
  end
  if now >= stamp then
    local elapsed = now - stamp
    stamp, level = now, max(0, level - elapsed)
    promise, hasty = max(0, promise - elapsed), max(0, hasty - elapsed)
  elseif stamp - now > CLOCK_STEP then
    stamp = now
  end
  stamps[i], levels[i] = stamp, level
  if urgent then
    promises[i], others[i] = hasty, promise
  else
    promises[i], others[i] = max(promise, hasty), hasty
  end
end

local function heed(i, key)
  local told = call('HMGET', key, 'pause_until', 'slow_until', 'factor', 'rate', 'rate_until')
  if not told[1] then return end
  local rate = tonumber(told[4])
  if rate > 0 and now < tonumber(told[5]) then
    if intervals[i] == 0 then tolerances[i] = TOLD_TOLERANCE end
    intervals[i] = max(intervals[i], 1000000 / rate)
  end
  if now < tonumber(told[2]) then intervals[i] = intervals[i] * tonumber(told[3]) end
  tolerances[i] = max(tolerances[i], intervals[i])
  pauses[i] = max(0, tonumber(told[1]) - now)
end

for first = 1, count, 1000 do
  local states = call('MGET', unpack(KEYS, first, min(count, first + 999)))
  for offset = 1, #states do load(first + offset - 1, states[offset]) end
end
for i = 1, count do pauses[i] = 0 end
for offset, i in ipairs(batch.accounts) do heed(i, KEYS[count + offset]) end
for i = 1, count do ceilings[i] = pauses[i] > 0 and -1 or tolerances[i] - intervals[i] end

-- how many of the wanted places this limit has
local function room(i, wanted)
  local space, interval = ceilings[i] - levels[i], intervals[i]
  if space < 0 then return 0 end
  if wanted == 1 or interval == 0 then return wanted end
  local places = floor(space / interval)
  if places * interval > space then places = places - 1 end
  return min(wanted, places + 1)
end

-- when a refused mail should come back for this limit's sake
local function wait(i, spread)
  local interval, tolerance, pause = intervals[i], tolerances[i], pauses[i]
  if interval == 0 then return pause + spread * min(pause, horizon) end
  local free = max(levels[i] + interval - tolerance, pause)
  local promise = max(promises[i], levels[i], pause + tolerance - interval) + interval
  local slot = promise - tolerance
  if slot - free > horizon then return free + horizon * (1 - spread / 3) end
  promises[i], touched[i] = promise, true
  return slot
end

local granted, delays, blockers, refused = {}, {}, {}, 0

local function refuse(group, mails)
  local full = {}
  for position = 1, #group do
    local i = group[position]
    if levels[i] > ceilings[i] then full[#full + 1] = i end
  end
  for _ = 1, mails do
    local spread = seed + refused * GOLDEN
    spread = spread - floor(spread)
    local delay, blocker = -1, 0
    for position = 1, #full do
      local i = full[position]
      local waits = wait(i, spread)
      if waits > delay then delay, blocker = waits, i end
    end
    refused = refused + 1
    delays[refused], blockers[refused] = max(1, ceil(delay)), blocker
  end
end

for run = 1, #batch.runs, 2 do
  local group, mails = batch.groups[batch.runs[run]], batch.runs[run + 1]
  local places = mails
  for position = 1, #group do
    places = room(group[position], places)
    if places == 0 then break end
  end
  if places > 0 then
    for position = 1, #group do
      local i = group[position]
      levels[i] = levels[i] + places * intervals[i]
      touched[i] = intervals[i] > 0
    end
  end
  granted[#granted + 1] = places
  if places < mails then refuse(group, mails - places) end
end

for i = 1, count do
  if touched[i] then
    local promise, hasty = promises[i], others[i]
    if urgent then promise, hasty = hasty, promise end
    local kept = max(levels[i], promise, hasty)
    call('SET', KEYS[i], struct.pack('<dddd', stamps[i], levels[i], promise, hasty), 'PX', ceil(kept / 1000) + KEPT)
  end
end
return {table.concat(granted, ' '), table.concat(delays, ' '), table.concat(blockers, ' ')}
