-- One built-in call and one of the client's in one answer, then tells what both said.
return function(request)
    if #request.results > 0 then
        local out = {}
        for i, r in ipairs(request.results) do out[i] = (r.is_error and "error: " or "ok: ") .. r.content end
        table.sort(out)
        return table.concat(out, "; ")
    end
    return { tools = { { name = "bash", input = { command = "echo ran" } }, { name = "lookup", input = {} } } }
end
