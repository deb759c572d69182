//! Origins, clients and rigs for clauderon's tests
