package main

import "iter"

type user struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Staff bool   `json:"staff"`
}

// users has everybody who can log in, by the name that they type. A demo: a
// real service asks for more than a name.
var users = map[string]user{
	"alice": {ID: "user-1", Name: "Alice"},
	"bob":   {ID: "user-2", Name: "Bob"},
	"staff": {ID: "staff-1", Name: "Staff", Staff: true},
}

func userByID(id string) (user, bool) {
	for _, u := range users {
		if u.ID == id {
			return u, true
		}
	}
	return user{}, false
}

// ids goes over the ids of the staff, or of the customers.
func ids(staff bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, u := range users {
			if u.Staff == staff && !yield(u.ID) {
				return
			}
		}
	}
}
