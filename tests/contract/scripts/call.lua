-- "NAME {json}" calls the tool NAME with that input, as it stands.
return function(request)
    if #request.results > 0 then
        local r = request.results[1]
        return (r.is_error and "error: " or "ok: ") .. r.content
    end
    local name, input = request.text:match("^(%S+)%s+(.*)$")
    return { tools = { { name = name, input = input } } }
end
