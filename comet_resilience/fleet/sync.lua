-- Renews a member's shares of a fleet's limits, one scope after the other, and commits new limits
-- that are still wanted.
--
-- KEYS     two for each scope, all in one slot of a cluster:
--          hash: member -> "expires:in_use:want:held:share:since:epoch:rate"
--          hash: limit, version, epoch, born, state
-- ARGV     so many for each scope, in the same order:
--          member, in_use, want, share, epoch, rate, ttl, learn, limit,
--          version, new_limit, new_epoch, new_state   (the last four: a commit, or "" and ignored)
--
-- Times are milliseconds of this server's clock; clients get and give durations only. A ttl of 0
-- is a farewell. Doing it twice changes nothing: a reply may be lost. The reply has one list for
-- each scope; where its keys are of another type, the error alone.
--
-- Nobody's share is raised above what the others have left, so the sum of what is held never
-- exceeds the limit, whatever the order in which members come. A member whose share is lowered
-- holds the old one until it comes again: until then it may not know.

local ARGUMENTS = 13
local TURN = 1000   -- how long a share lasts where there are more members than slots
local MOST = 1000000
local LONGEST = 600000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function whole(text, most)
  local number = tonumber(text)
  if not number or number ~= number then return nil end
  return math.max(0, math.min(most, math.floor(number)))
end

-- Tells whether a time to live is not over, and is one of ours: the clock may have been set back.
local function lasts(expires)
  return expires and expires > now and expires <= now + LONGEST
end

local function renew(members_key, limit_key, arguments)
  local me = arguments[1]
  local ttl = whole(arguments[7], LONGEST) or 0
  if ttl == 0 then
    redis.call('HDEL', members_key, me)
    return {}
  end

  -- The fleet's limit. Lost or damaged, it begins again with what this member remembers.
  local kept = redis.call('HMGET', limit_key, 'limit', 'version', 'epoch', 'born', 'state')
  local limit, version = whole(kept[1], MOST), whole(kept[2], 1e15)
  local epoch, born, state = whole(kept[3], 1e15), whole(kept[4], 1e15), kept[5]
  if not (limit and version and epoch and born and state) then
    limit, version, epoch, born, state = whole(arguments[9], MOST) or 1, now, 0, now, ''
    redis.call('HSET', limit_key, 'limit', limit, 'version', version, 'epoch', epoch,
               'born', born, 'state', state)
  end

  local committed = 0
  if arguments[10] ~= '' and tonumber(arguments[10]) == version then
    limit, epoch = whole(arguments[11], MOST) or limit, whole(arguments[12], 1e15) or epoch
    state = arguments[13]
    version, committed = version + 1, 1
    redis.call('HSET', limit_key, 'limit', limit, 'version', version, 'epoch', epoch,
               'state', state)
  end

  -- Who is there. What has expired, or is no entry of ours, is removed.
  local mine = {
    name = me, in_use = whole(arguments[2], MOST) or 0, want = whole(arguments[3], MOST) or 0,
    share = whole(arguments[4], MOST) or 0, since = now, epoch = whole(arguments[5], 1e15) or 0,
    rate = tonumber(arguments[6]) or 0,
  }
  local members, others_in_use, others_hold, others_want, rate, lagging = { mine }, 0, 0, 0, 0, 0
  local known = false
  local entries = redis.call('HGETALL', members_key)
  for i = 1, #entries, 2 do
    local name = entries[i]
    local expires, in_use, want, held, share, since, seen, sends =
      string.match(entries[i + 1], '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):([%d.]+)$')
    expires = tonumber(expires)
    if name == me then
      known = lasts(expires)
      if since and (tonumber(share) > 0) == (mine.share > 0) then
        mine.since = math.min(now, tonumber(since))
      end
    elseif not lasts(expires) then
      redis.call('HDEL', members_key, name)
    else
      local other = {
        name = name, in_use = whole(in_use, MOST), want = whole(want, MOST),
        share = whole(share, MOST), since = math.min(now, tonumber(since)),
      }
      members[#members + 1] = other
      -- Who has missed several renewals may be dead: what it had in flight is no longer there.
      if expires - now > ttl / 2 then others_in_use = others_in_use + other.in_use end
      others_hold = others_hold + whole(held, MOST)
      others_want = others_want + other.want
      rate = rate + (tonumber(sends) or 0)
      if tonumber(seen) < epoch then lagging = lagging + 1 end
    end
  end

  -- Max-min fairness in whole slots: everybody up to a level, and one more for some of those who
  -- want it. Who has that one keeps it; where there are more members than slots they take turns.
  local function fair_share()
    table.sort(members, function(a, b) return a.want < b.want end)
    local left, level, extra = limit, nil, 0
    for i, member in ipairs(members) do
      local rest = #members - i + 1
      local each = math.floor(left / rest)
      if member.want > each then
        level, extra = each, left - each * rest
        break
      end
      left = left - member.want
    end
    if not level then  -- enough for all: some of what is left over, for those who come next
      return mine.want + math.min(math.ceil((mine.want + 1) / 2), math.floor(left / #members))
    end
    if mine.want <= level then return mine.want end
    local function place(member)
      if level > 0 then return member.share > level and 0 or 1 end
      if member.share == 0 then return 1 end
      return now - member.since < TURN and 0 or 2
    end
    local my_place, before = place(mine), 0
    for _, member in ipairs(members) do
      if member ~= mine and member.want > level then
        local theirs = place(member)
        if theirs < my_place or (theirs == my_place and (member.since < mine.since
            or (member.since == mine.since and member.name < me))) then
          before = before + 1
        end
      end
    end
    return level + (before < extra and 1 or 0)
  end

  -- Everybody has run out, as after a long silence of this server or where its clock has jumped:
  -- they come back one by one and go on with what they had. Whoever is first must not take it all.
  if born > now or (not known and #members == 1 and mine.share > 0) then
    born = now
    redis.call('HSET', limit_key, 'born', born)
  end

  local learning = now - born < (whole(arguments[8], LONGEST) or 0)
  local claim = math.max(mine.share, mine.in_use, math.min(1, mine.want))
  local share = learning and claim or fair_share()
  share = math.max(0, math.min(share, limit - others_hold))
  if (share > 0) ~= (mine.share > 0) then mine.since = now end

  local entry = string.format('%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%.3f', now + ttl, mine.in_use,
                              mine.want, math.max(share, mine.share, mine.in_use), share,
                              mine.since, epoch, math.max(0, mine.rate))
  redis.call('HSET', members_key, me, entry)
  redis.call('PEXPIRE', members_key, 20 * ttl)
  redis.call('PEXPIRE', limit_key, 20 * ttl)

  local contended = others_want + mine.want > limit and 1 or 0
  return { share, limit, string.format('%.0f', version), string.format('%.0f', epoch), #members,
           others_in_use, lagging, string.format('%.3f', rate), string.format('%.0f', now),
           committed, contended, state }
end

local replies = {}
for scope = 1, #KEYS / 2 do
  local arguments = {}
  for place = 1, ARGUMENTS do arguments[place] = ARGV[ARGUMENTS * (scope - 1) + place] end
  local done, reply = pcall(renew, KEYS[2 * scope - 1], KEYS[2 * scope], arguments)
  if not done then  -- an error as the server says it, without the place in this script
    local words = type(reply) == 'table' and reply.err or tostring(reply)
    words = string.gsub(words, '^@?user_script:%d+: ', '')
    if string.sub(words, 1, 9) ~= 'WRONGTYPE' then return redis.error_reply(words) end
    reply = { words }
  end
  replies[scope] = reply
end
return replies
